"""Connections to one replica: an HTTP/1.1 client protocol and the pool that keeps idle ones."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

import httptools

logger = logging.getLogger(__name__)

_HIGH_WATER_BYTES = 1 << 20
"""Requests are held in memory anyway until they are sent; this only bounds how they are handed to the kernel."""

LATE_S: Final = 0.05
"""A loop that stood still learns that time is up before it learns what came meanwhile: so long it looks once more."""


class Receiver(Protocol):
    """Who a connection works for at the moment. Exactly one of `upstream_end` and `upstream_lost` comes, and last."""

    def upstream_head(self, status: int, content_type: bytes) -> None:
        """The answer's head is there."""

    def upstream_data(self, data: bytes) -> None:
        """Some of its body."""

    def upstream_end(self) -> None:
        """The answer is complete; the connection is no longer the receiver's."""

    def upstream_lost(self) -> None:
        """The connection broke before the answer was complete."""


class _NoTransport(asyncio.Transport):
    """Stands in before a connection is made, so that nothing has to ask whether there is one."""

    def is_closing(self) -> bool:
        """Nothing can be sent."""
        return True

    def abort(self) -> None:
        """Nothing to drop."""


_NO_TRANSPORT = _NoTransport()


class UpstreamConnection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._pieces: list[bytes] = []
        """Of the answer's body, from the data being parsed: delivered together, since each delivery is a write."""
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)  # looks its callbacks up now
        self._transport: asyncio.Transport = _NO_TRANSPORT
        self._receiver: Receiver | None = None
        self._status = 0
        self._content_type = b""
        self._framed = False
        self._head_seen = False
        self._complete = False
        """The data being parsed held the end of the answer."""
        self._reusable = False
        self._whole = 0
        """Pieces that belong to the complete answer."""
        self.uses = 0
        """Requests sent over it. One that breaks on a connection used before may just have met an idle time-out."""
        self.idle_since_s = 0.0
        self.paused = False

    def send(self, receiver: Receiver, head: bytes, body: bytes) -> None:
        """Send a request and deliver its answer to the receiver."""
        self._receiver = receiver
        self.uses += 1
        self._head_seen = self._framed = self._complete = False
        self._content_type = b""
        if self.usable:
            self._transport.write(head + body)
        else:
            asyncio.get_running_loop().call_soon(self._lose)

    def abandon(self, receiver: Receiver) -> None:
        """Drop the connection now, so that the engine frees what the request holds; the receiver hears nothing.

        One that was given back and works for another receiver by now is not this one's to drop.
        """
        if self._receiver is receiver:
            self._receiver = None
            self._transport.abort()

    def close(self) -> None:
        """Close a connection that works for nobody."""
        self._transport.abort()

    def pause(self) -> None:
        """Stop reading: the client is slower than the engine."""
        if self.usable and not self.paused:
            self.paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self.paused:
            self.paused = False
            if self.usable:
                self._transport.resume_reading()

    def works_for(self, receiver: Receiver) -> bool:
        """Whether the receiver's answer may still come over this connection."""
        return self._receiver is receiver and self.usable

    def release(self) -> None:
        """Give it back unused."""
        self._pool.give_back(self)

    @property
    def usable(self) -> bool:
        """Whether a request may be sent over it."""
        return not self._transport.is_closing()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Parse; anything that is not the answer of our request ends the connection."""
        if self._receiver is None:
            # Nobody asked for it. Kept, it would be read as the start of the next request's answer.
            self._pool.discard(self)
            self._transport.abort()
            return
        broken = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            logger.exception("a defect in the gateway broke an answer")
            broken = True
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            broken = True
        if self._pieces:
            self._deliver()
        if self._complete:
            self._finish(keep=self._reusable and not broken)
        elif broken:
            self._transport.abort()
            self._lose()

    def eof_received(self) -> bool:
        """The replica closes; the transport may too."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the receiver, unless an answer without a length was complete with this."""
        self._pool.discard(self)
        if exc is None and self._head_seen and not self._framed and self._receiver is not None:
            receiver, self._receiver = self._receiver, None
            receiver.upstream_end()
        else:
            self._lose()

    # httptools

    def on_message_begin(self) -> None:
        """Note what follows a complete answer without having been asked for."""
        if self._complete:
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what the relay needs."""
        name = name.lower()
        if name == b"content-type":
            self._content_type = value
        elif name in {b"content-length", b"transfer-encoding"}:
            self._framed = True

    def on_headers_complete(self) -> None:
        """Deliver the head, unless it is an interim one, or follows the answer and is nobody's."""
        if self._complete:
            return
        self._status = status = self._parser.get_status_code()
        if status < 200:
            self._content_type = b""
            self._framed = False
            return
        self._head_seen = True
        if self._receiver is not None:
            self._receiver.upstream_head(status, self._content_type)

    def on_message_complete(self) -> None:
        """Note the answer's end: what becomes of the connection depends on what else the data holds."""
        if self._status >= 200 and not self._complete:
            self._complete = True
            self._whole = len(self._pieces)
            self._reusable = self._parser.should_keep_alive()

    def _deliver(self) -> None:
        pieces = self._pieces
        if self._complete:
            del pieces[self._whole :]
            if not pieces:
                return
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self._receiver is not None:
            self._receiver.upstream_data(data)

    def _finish(self, *, keep: bool) -> None:
        """Give the connection back before the receiver goes on, so that its next request can have it."""
        receiver, self._receiver = self._receiver, None
        self._complete = False
        if receiver is None:
            return
        if self.paused:
            self.resume()
        if keep:
            self._pool.give_back(self)
        else:
            self._transport.close()
        receiver.upstream_end()

    def _lose(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.upstream_lost()


class Pool:
    """Idle connections to one replica, the latest used first, so that the others grow old and go."""

    __slots__ = ("_closed", "_connect_s", "_host", "_idle", "_port", "_tasks")

    def __init__(self, host: str, port: int, *, connect_s: float) -> None:
        self._host = host
        self._port = port
        self._connect_s = connect_s
        self._idle: list[UpstreamConnection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def take(self) -> UpstreamConnection | None:
        """Return an idle connection, if there is one."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
        return None

    def connect(
        self, on_connected: Callable[[UpstreamConnection], None], on_failed: Callable[[BaseException], None]
    ) -> asyncio.Task[None]:
        """Open a new connection; exactly one of both is called, later, unless the task is cancelled."""
        task = asyncio.get_running_loop().create_task(self._connect(on_connected, on_failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request."""
        if self._closed:
            connection.close()
            return
        connection.idle_since_s = time.monotonic()
        self._idle.append(connection)

    def discard(self, connection: UpstreamConnection) -> None:
        """Forget a connection that is gone."""
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, now_s: float, idle_s: float) -> None:
        """Close connections idle for longer than `idle_s`."""
        old = [connection for connection in self._idle if now_s - connection.idle_since_s > idle_s]
        for connection in old:
            self._idle.remove(connection)
            connection.close()

    def close(self) -> None:
        """Close idle connections, and the others as they become idle."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def _connect(
        self, on_connected: Callable[[UpstreamConnection], None], on_failed: Callable[[BaseException], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        connecting = loop.create_task(
            loop.create_connection(lambda: UpstreamConnection(self), self._host, self._port), name="connect"
        )
        try:
            done, _ = await asyncio.wait({connecting}, timeout=self._connect_s)
            if not done:
                done, _ = await asyncio.wait({connecting}, timeout=LATE_S)
        finally:
            connecting.cancel()  # one that is done hears nothing of it
        if not done:
            on_failed(TimeoutError(f"no connection within {self._connect_s:g} s"))
        elif (error := connecting.exception()) is not None:
            on_failed(error)
        else:
            on_connected(connecting.result()[1])
