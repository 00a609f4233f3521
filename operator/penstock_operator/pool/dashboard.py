"""Ray's dashboard of one cluster, where Serve is asked and told, with the token that KubeRay made for it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

from penstock.serve.client import ServeClient
from penstock.serve.errors import ServeError, ServeUnauthorizedError
from penstock.serve.status import ServeStatus
from penstock_kube.client import KubeClient
from penstock_kube.errors import KubeError
from penstock_kube.resources import SECRETS

_TOKEN_KEY: Final = "auth_token"  # noqa: S105 - the key of a Secret, no secret
_TOKEN_PAUSE_S: Final = 5.0
"""Between two readings of the Secret: one that is not there yet is asked for no faster."""


class Dashboard:
    """Asks Serve, and remembers since when it has not answered."""

    def __init__(self, namespace: str, cluster: str, url: str, *, kube: KubeClient, clock: Callable[[], float]) -> None:
        """Make a dashboard that nobody has asked yet.

        Args:
            namespace: The RayCluster's.
            cluster: Its name, which is also the name of the Secret with its token.
            url: Where Ray's dashboard is.
            kube: Reads the token.
            clock: Returns Unix seconds.
        """
        self.client = ServeClient(url)
        self.problem: str | None = None
        """Why Serve could not be asked the last time, in words."""
        self.silent_since_s: float | None = None
        self._namespace, self._cluster = namespace, cluster
        self._kube, self._clock = kube, clock
        self._has_token = False
        self._token_asked_s = 0.0

    async def look(self) -> ServeStatus | None:
        """Ask Serve what it runs; None without an answer, and `problem` says why."""
        try:
            if not self._has_token:
                await self._fetch_token()
            status = await self.client.status()
        except ServeUnauthorizedError as error:
            self._has_token = False  # the Secret was rotated: read it anew
            self._note_silence(str(error))
        except (ServeError, KubeError) as error:
            self._note_silence(str(error))
        else:
            self.problem = self.silent_since_s = None
            return status
        return None

    def _note_silence(self, problem: str) -> None:
        self.problem = problem
        if self.silent_since_s is None:
            self.silent_since_s = self._clock()

    async def _fetch_token(self) -> None:
        now_s = self._clock()
        if now_s - self._token_asked_s < _TOKEN_PAUSE_S:
            return
        self._token_asked_s = now_s
        secret = await self._kube.get(SECRETS, self._namespace, self._cluster)
        self.client.authenticate(base64.b64decode((secret.get("data") or {}).get(_TOKEN_KEY, "")).decode())
        self._has_token = True
