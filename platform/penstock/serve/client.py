"""The one client of Ray Serve's REST API, the same against a plain `ray start --head` and a KubeRay head."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx2
import msgspec

from penstock.serve.errors import (
    ServeAnswerError,
    ServeNotFoundError,
    ServeRefusedError,
    ServeUnauthorizedError,
    ServeUnavailableError,
    ServeUnreachableError,
)
from penstock.serve.status import ServeStatus, parse_status

APPLICATIONS = "/api/serve/applications/"
_READ_TIMEOUT_S = 10.0
_CHANGE_TIMEOUT_S = 60.0
"""A scale call took 22 s on a machine whose cores were all busy generating; the first PUT starts Serve itself."""


class _Answer(msgspec.Struct, frozen=True):
    """What is read of Ray's answer, as its bytes: the rest has figures of the controller that never stand still."""

    controller_info: msgspec.Raw = msgspec.Raw(b"null")
    applications: msgspec.Raw = msgspec.Raw(b"null")
    target_groups: msgspec.Raw = msgspec.Raw(b"null")


_PARTS = _Answer.__struct_fields__


class ServeClient:
    """Reads and changes the applications of one Ray cluster.

    Every method raises a `ServeError`: `ServeUnreachableError` without an answer, else the class of the status.
    """

    def __init__(self, base_url: str, token: str | None = None) -> None:
        """Make a client of a Ray dashboard.

        Args:
            base_url: Where Ray's dashboard listens, as `http://127.0.0.1:8265`.
            token: Ray's authentication token; None for a cluster without.
        """
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        # trust_env off: a proxy from the environment must never see the token, and loopback needs none.
        self._http = httpx2.AsyncClient(
            base_url=base_url,
            headers=headers,
            timeout=_READ_TIMEOUT_S,
            trust_env=False,
            follow_redirects=False,
            verify=_trusted(),
        )
        self._last: tuple[_Answer, ServeStatus] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close idle connections."""
        await self._http.aclose()

    def authenticate(self, token: str) -> None:
        """Use another token from now on: the cluster's has changed."""
        self._http.headers["authorization"] = f"Bearer {token}"

    async def status(self) -> ServeStatus:
        """Return what Serve runs now (7 ms on an idle cluster); the very same object while nothing of it changes."""
        content = await self._call("GET", APPLICATIONS)
        try:
            answer = msgspec.json.decode(content, type=_Answer)
            if self._last is None or self._last[0] != answer:
                self._last = (answer, parse_status({name: _decoded(getattr(answer, name)) for name in _PARTS}))
        except msgspec.DecodeError as error:
            raise ServeUnavailableError(200, f"not Serve's JSON: {error}") from error
        return self._last[1]

    async def put(self, config: Mapping[str, Any]) -> None:
        """Replace the whole set of applications: those left out of `config` are deleted."""
        await self._call("PUT", APPLICATIONS, config)

    async def scale(self, application: str, deployment: str, replicas: int) -> None:
        """Ask for a number of replicas, zero allowed.

        Serve answers before it acts and forgets what it is told during a build: read `status` back.
        """
        path = f"/api/v1/applications/{application}/deployments/{deployment}/scale"
        await self._call("POST", path, {"target_num_replicas": replicas})

    async def delete_all(self) -> None:
        """Delete every application and stop Serve; replicas drain for as long as they were given."""
        await self._call("DELETE", APPLICATIONS)

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        timeout_s = _READ_TIMEOUT_S if method == "GET" else _CHANGE_TIMEOUT_S
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            response = await self._http.request(method, path, content=content, headers=headers, timeout=timeout_s)
        except httpx2.HTTPError as error:
            raise ServeUnreachableError(
                f"{method} {self._http.base_url}{path.lstrip('/')}: {type(error).__name__} {error}".rstrip()
            ) from error
        if response.status_code != httpx2.codes.OK:
            raise _error_class(response.status_code)(response.status_code, response.text)
        return response.content


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Return this machine's certificate authorities, read once: an operator has a client for each Ray cluster."""
    return ssl.create_default_context()


def _error_class(status: int) -> type[ServeAnswerError]:
    if status in {401, 403}:
        return ServeUnauthorizedError
    if status == 404:
        return ServeNotFoundError
    if status >= 500:
        return ServeUnavailableError
    return ServeRefusedError


def _decoded(raw: msgspec.Raw) -> Any:
    return msgspec.json.decode(raw)
