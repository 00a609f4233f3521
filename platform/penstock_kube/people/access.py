"""The user's own way to a cluster: kubeconfig, context and namespace, as kubectl reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubernetes.aio.config import ConfigException, list_kube_config_contexts

from penstock.errors import UserError
from penstock_kube.config import Access
from penstock_kube.errors import ConfigError

_SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def find_access(kubeconfig: Path | None, context: str | None) -> Access:
    """Return the way to the cluster.

    Raises:
        UserError: there is none, or the kubeconfig has no such context.
    """
    try:
        access = Access.find(kubeconfig, context)
    except ConfigError as error:
        raise UserError(str(error)) from error
    if context is not None:
        names = [one["name"] for one in _contexts(access)[0]]
        if context not in names:
            known = ", ".join(names) or "none"
            raise UserError(f"--context {context!r} is not in {access.kubeconfig}: it has {known}")
    return access


def namespace_of(access: Access) -> str:
    """Return the namespace that the context, or else the pod's service account, works in; `default` without one."""
    if access.kubeconfig is None:
        try:
            return _SERVICE_ACCOUNT_NAMESPACE.read_text().strip() or "default"
        except OSError:
            return "default"
    contexts, current = _contexts(access)
    if access.context is not None:
        current = next(one for one in contexts if one["name"] == access.context)
    namespace = ((current or {}).get("context") or {}).get("namespace")
    return str(namespace or "default")


def _contexts(access: Access) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return all contexts and the current one.

    Raises:
        UserError: the kubeconfig cannot be read.
    """
    try:
        contexts, current = list_kube_config_contexts(access.kubeconfig)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, TypeError, KeyError, ValueError) as error:
        raise UserError(f"the kubeconfig {access.kubeconfig} is unusable: {error}") from error
    return contexts, current
