"""A connection to a replica: an HTTP/1.1 client protocol that works for one receiver at a time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol, cast

import httptools

if TYPE_CHECKING:
    from penstock_gateway.relay.pool import Pool

logger = logging.getLogger(__name__)

_HIGH_WATER_BYTES = 1 << 20
"""Requests are held in memory anyway until they are sent; this only bounds how they are handed to the kernel."""


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
