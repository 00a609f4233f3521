"""HTTP to the API server over `kubernetes.aio`'s connection pool, TLS and credentials."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from penstock_kube.config import Access
from penstock_kube.errors import ConfigError, UnreachableError, status_error

_CONNECT_TIMEOUT_S = 5.0
_LONGEST_RETRY_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    """Parameters; those that are None are left out."""
    body: Any = None
    """JSON data, or None for no body."""
    content_type: str = "application/json"

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def target(self) -> str:
        """Path and parameters."""
        parameters = urlencode({name: value for name, value in self.query.items() if value is not None})
        return f"{self.path}?{parameters}" if parameters else self.path


class Transport:
    """Sends requests, and reads the credentials again when the server says that they have expired."""

    def __init__(self, access: Access, user_agent: str) -> None:
        self._access = access
        self._user_agent = user_agent
        self._opened: tuple[Configuration, RESTClientObject] | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Close every connection."""
        if self._opened is not None:
            await self._opened[1].close()
            self._opened = None

    @asynccontextmanager
    async def send(
        self, request: Request, *, timeout_s: float | None, silence_s: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield the answer, its body unread.

        Args:
            request: what to send.
            timeout_s: longest time for the whole exchange; None for a watch, which ends when the server says so.
            silence_s: longest time without a byte from the server; None for no such bound.

        Raises:
            UnreachableError: no answer, or the connection broke while the body was read.
            StatusError: the server refused; the subclass tells why.
            ConfigError: there are no usable credentials.
        """
        limits = aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_TIMEOUT_S, sock_read=silence_s)
        try:
            answer = await self._send(request, limits)
            if answer.status == 401:
                answer.close()
                await self.close()  # the next request reads the credentials again
                answer = await self._send(request, limits)
            try:
                if answer.status >= 400:
                    await _raise_status(answer)
                yield answer
            finally:
                if answer.connection is not None and answer.connection.transport is not None:
                    # The answer is not read to its end. A TLS goodbye would keep the socket of a silent peer for long.
                    answer.connection.transport.abort()
                answer.close()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(f"{request}: {_text(error)}") from error

    async def _send(self, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        configuration, rest = await self._open()
        headers = {"Accept": "application/json", "Content-Type": request.content_type, "User-Agent": self._user_agent}
        # Asked for each request: a service account's token is replaced within the hour.
        settings = await configuration.auth_settings()
        if "BearerToken" in settings:
            headers["Authorization"] = settings["BearerToken"]["value"] or ""
        answer = await rest.request(  # type: ignore[no-untyped-call]
            request.method,
            configuration.host + request.target,
            headers=headers,
            body=request.body,
            _request_timeout=limits,
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _open(self) -> tuple[Configuration, RESTClientObject]:
        async with self._opening:
            if self._opened is None:
                configuration = await self._access.load()
                try:
                    self._opened = configuration, RESTClientObject(configuration)
                except OSError as error:
                    raise ConfigError(f"the cluster's certificates cannot be read: {error}") from error
            return self._opened


async def _raise_status(answer: aiohttp.ClientResponse) -> None:
    """Raise what an error answer says; proxies and health checks answer with other things than a Status."""
    text = await answer.text(errors="replace")
    try:
        status = json.loads(text)
    except ValueError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        status = {"reason": answer.reason or "Unknown", "message": text.strip()}
    raise status_error(answer.status, status, _retry_after_s(answer.headers, status))


def _retry_after_s(headers: Mapping[str, str], status: Mapping[str, Any]) -> float | None:
    given = headers.get("Retry-After") or (status.get("details") or {}).get("retryAfterSeconds")
    try:
        return None if given is None else min(max(0.0, float(given)), _LONGEST_RETRY_AFTER_S)
    except ValueError:
        return None  # an HTTP date, which API servers do not send


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
