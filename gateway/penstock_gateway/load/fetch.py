"""One GET at a replica, over the same connections that requests use."""

from __future__ import annotations

import asyncio

from penstock_gateway.discovery.live import LiveReplica
from penstock_gateway.relay.upstream import UpstreamConnection

_BODY_BYTES = 16 * 1024 * 1024


class FetchError(Exception):
    """The replica could not be asked, or broke off its answer."""


class _Fetch:
    """Receives one answer whole (`upstream.Receiver`)."""

    def __init__(self, answer: asyncio.Future[tuple[int, bytes]]) -> None:
        self._answer = answer
        self._status = 0
        self._parts: list[bytes] = []
        self._size = 0

    def upstream_head(self, status: int, content_type: bytes) -> None:
        self._status = status

    def upstream_data(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= _BODY_BYTES:
            self._parts.append(data)

    def upstream_end(self) -> None:
        if not self._answer.done():
            self._answer.set_result((self._status, b"".join(self._parts)))

    def upstream_lost(self) -> None:
        if not self._answer.done():
            self._answer.set_exception(FetchError("the replica closed the connection"))


async def fetch(replica: LiveReplica, path: str, *, timeout_s: float) -> tuple[int, bytes]:
    """Return status and body of a GET below the replica's base path.

    Raises:
        FetchError: no connection, no whole answer, or none in time.
    """
    answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
    receiver = _Fetch(answer)
    sent: list[UpstreamConnection] = []

    def send(connection: UpstreamConnection) -> None:
        if answer.done():
            connection.release()
            return
        sent.append(connection)
        head = b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n" % ((replica.base_path + path).encode(), replica.host)
        connection.send(receiver, head, b"")

    def failed(error: BaseException) -> None:
        if not answer.done():
            answer.set_exception(FetchError(f"no connection: {error}"))

    connection = replica.pool.take()
    if connection is not None:
        send(connection)
    else:
        replica.pool.connect(send, failed)
    try:
        async with asyncio.timeout(timeout_s):
            return await answer
    except TimeoutError:
        for connection in sent:
            connection.abandon(receiver)
        raise FetchError(f"no answer within {timeout_s:g} s") from None
