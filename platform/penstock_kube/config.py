"""How to reach the cluster: a kubeconfig, or the service account of the pod we run in."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from penstock_kube.errors import ConfigError

_MALFORMED = (yaml.YAMLError, TypeError, KeyError, AttributeError, ValueError)
"""What the loader raises on a file that is no kubeconfig: it walks the document without checking it."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the credentials come from; `load` reads them, again when they have expired."""

    kubeconfig: str | None = None
    """A kubeconfig file, or several joined as in `KUBECONFIG`; the pod's service account when None."""
    context: str | None = None
    """Context in the kubeconfig; its current one when None."""

    @classmethod
    def find(cls, kubeconfig: Path | None = None, context: str | None = None) -> Access:
        """Return the access to use here, as `kubectl` does, but a pod's own account goes before `~/.kube/config`.

        Order: the argument, `KUBECONFIG`, the service account, `~/.kube/config`.

        Raises:
            ConfigError: none of them is there.
        """
        named = str(kubeconfig) if kubeconfig is not None else os.environ.get("KUBECONFIG", "")
        if named:
            if not any(Path(part).is_file() for part in named.split(os.pathsep)):
                raise ConfigError(
                    f"the kubeconfig {named} is not there: check --kubeconfig and the variable KUBECONFIG"
                )
            return cls(named, context)
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            return cls()
        home = Path.home() / ".kube" / "config"
        if not home.is_file():
            raise ConfigError(f"no cluster to talk to: set KUBECONFIG, write {home}, or run inside a cluster")
        return cls(str(home), context)

    async def load(self) -> Configuration:
        """Return the configuration of the transport, credentials read now.

        Raises:
            ConfigError: the file or the service account is unusable.
        """
        configuration = Configuration()
        try:
            if self.kubeconfig is None:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                await load_kube_config(  # type: ignore[no-untyped-call]
                    self.kubeconfig, self.context, client_configuration=configuration, persist_config=False
                )
        except (ConfigException, OSError, *_MALFORMED) as error:
            place = "the service account" if self.kubeconfig is None else f"the kubeconfig {self.kubeconfig}"
            raise ConfigError(f"{place} is unusable: {error}") from error
        configuration.retries = None  # who calls knows whether a repeat is safe, and how long it may take
        if _is_loopback(configuration.host):
            configuration.client_session_kwargs = {"trust_env": False}  # no proxy leads back to this machine
        return configuration


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
