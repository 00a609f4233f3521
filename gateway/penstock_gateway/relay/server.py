"""The client's side: one connection on the data port, its requests read one after another and answered in order.

`head_rules` says what a head may hold; `dispatch` says what a whole request is for. Here is only what HTTP asks of a
connection: order, keep-alive, back-pressure, limits while reading, deadlines, and a clean end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Final, cast

import httptools

from penstock_gateway.errors import BadHTTPError, GatewayError, ReadTimeoutError, encode_error
from penstock_gateway.relay import wire
from penstock_gateway.relay.context import Relay
from penstock_gateway.relay.dispatch import dispatch
from penstock_gateway.relay.drain import Connections
from penstock_gateway.relay.exchange import Exchange
from penstock_gateway.relay.head import HeadReader
from penstock_gateway.relay.request import Request

logger = logging.getLogger(__name__)

_LINGER_S: Final = 2.0
"""How long a refused client's remaining bytes are read and thrown away: closing on unread bytes resets the connection
and can take the refusal with it."""


class ClientConnection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, relay: Relay, connections: Connections) -> None:
        self._relay = relay
        self._connections = connections
        self._head = HeadReader(relay.settings.limits)
        self.on_url = self._head.target
        self.on_header = self._head.field
        self._parser = httptools.HttpRequestParser(self)  # looks its callbacks up now
        self._transport = asyncio.Transport()  # replaced before any other call
        self._request: Request | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._read_bytes = 0
        """Of the request being read, as they came, less those of a read that it shares with the one before."""
        self._completed = False
        """A request was completed by the data being parsed."""
        self._queue: deque[Request | GatewayError] = deque()
        self._exchange: Exchange | None = None
        self._pumping = False
        self._paused = False
        """Not reading: a request waits for the one before it."""
        self._deaf = False
        """A request was refused in a way that ends the connection: what still comes is thrown away."""
        self._closing = False
        self._stalled_since_s: float | None = None
        self._deadline_s = 0.0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the process's connections."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        self._connections.add(self)
        self._deadline_s = time.monotonic() + self._relay.settings.deadlines.keep_alive_s

    def data_received(self, data: bytes) -> None:
        """Parse; the parser calls back below."""
        if self._deaf:
            return
        self._completed = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Answered in HTTP/1.1, then closed: what follows would be in a protocol that is not spoken here.
            self._go_deaf()
            if self._exchange is None:
                self._close()
        except httptools.HttpParserCallbackError:
            logger.exception("a defect in the gateway ended a client's connection")
            self._refuse(GatewayError("The gateway failed on this request. Send it again."))
        except httptools.HttpParserError as error:
            self._refuse(BadHTTPError(f"The request is not valid HTTP/1.1: {error}. The connection is closed."))
        else:
            if self._request is not None and not self._completed:
                self._check_size(len(data))

    def eof_received(self) -> bool:
        """The client closed its side: it has left, and nothing is owed to it any more."""
        self._leave_exchange()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Free what the connection holds at replicas."""
        self._connections.discard(self)
        self._deaf = self._closing = True
        self._queue.clear()
        self._leave_exchange()

    def pause_writing(self) -> None:
        """The client reads slower than the engine writes."""
        self._stalled_since_s = time.monotonic()
        if self._exchange is not None:
            self._exchange.client_slow()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._stalled_since_s = None
        if self._exchange is not None:
            self._exchange.client_ready()

    # httptools

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._deaf:
            return
        self._request = Request(self._relay.ids.next())
        self._body_bytes = 0
        self._read_bytes = 0
        self._head.reset()
        self._deadline_s = time.monotonic() + self._relay.settings.deadlines.request_read_s

    def on_headers_complete(self) -> None:
        """Judge the head."""
        request = self._request
        if request is None:
            return
        try:
            expects_continue = self._head.finish(request, self._parser)
        except GatewayError as error:
            self._refuse(error)
            return
        if expects_continue and self._exchange is None and not self._queue:
            self._transport.write(wire.CONTINUE)

    def on_body(self, data: bytes) -> None:
        """Some of the body."""
        if self._request is None:
            return
        self._body_bytes += len(data)
        if self._body_bytes > self._relay.settings.limits.body_bytes:
            self._refuse(self._head.body_too_large())
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """Answer the request now, or after those before it."""
        self._completed = True
        request, self._request = self._request, None
        if request is None:
            return
        body = self._body
        if body:
            request.body = body[0] if len(body) == 1 else b"".join(body)
            body.clear()
        request.received_s = time.monotonic()
        self._queue.append(request)
        if self._exchange is None:
            self._pump()
        elif not self._paused:
            self._paused = True
            self._transport.pause_reading()

    # Answers

    def send_answer(self, request: Request, status: int, content_type: bytes, body: bytes, extra: bytes = b"") -> None:
        """Write a whole answer."""
        relay = self._relay
        relay.tally.answers[status] += 1
        head = wire.answer_head(
            status,
            date=relay.clock.date,
            request_id=request.id.encode(),
            content_type=content_type,
            length=len(body),
            close=self._last(request),
            extra=extra + request.answer_fields,
        )
        self._transport.write(head if request.head_only else head + body)

    def send_error(self, request: Request, error: GatewayError) -> None:
        """Write an error as an answer."""
        self.send_answer(request, error.status, wire.JSON, encode_error(error), wire.header_lines(error.headers))

    def start_stream(self, request: Request, events: bytes) -> None:
        """Write a stream's head and its first events."""
        self._relay.tally.answers[200] += 1
        head = wire.stream_head(
            date=self._relay.clock.date,
            request_id=request.id.encode(),
            chunked=not request.http10,
            close=self._last(request),
            extra=request.answer_fields,
        )
        self._transport.write(head + (events if request.http10 else wire.chunk(events)))

    def send_chunk(self, request: Request, events: bytes) -> None:
        """Write some events, at least one."""
        self._transport.write(events if request.http10 else b"%x\r\n%b\r\n" % (len(events), events))

    def end_stream(self, request: Request, events: bytes) -> None:
        """Write the last events and the stream's end."""
        if request.http10:
            self._transport.write(events)
        else:
            self._transport.write(wire.chunk(events) + wire.LAST_CHUNK)

    def end_stream_with_error(self, request: Request, error: GatewayError) -> None:
        """Write an error as the last event; no `[DONE]` follows, so that no client takes the answer for whole."""
        self.end_stream(request, b"data: %b\n\n" % encode_error(error))

    def exchange_done(self, request: Request) -> None:
        """The request has its answer: go on with the next, or close."""
        self._exchange = None
        if self._last(request):
            self._close()
        else:
            self._pump()

    def begin(self, exchange: Exchange) -> None:
        """Let an exchange answer the current request."""
        self._exchange = exchange
        exchange.attempt()

    # Life

    def under_way(self) -> tuple[str, float] | None:
        """Return the replica that works for this client and since when (monotonic seconds), or None."""
        exchange = self._exchange
        if exchange is None or exchange.reached is None:
            return None
        return exchange.reached.id, exchange.sent_s

    @property
    def idle(self) -> bool:
        """Nothing is being read or answered."""
        return self._exchange is None and not self._queue and self._request is None

    def drain(self) -> None:
        """Close now when idle, else after the current answer."""
        if self.idle:
            self._close()

    def abort(self) -> None:
        """Drop the connection, and with it what it waits for."""
        self._transport.abort()

    def tick(self, now_s: float) -> None:
        """Check deadlines."""
        deadlines = self._relay.settings.deadlines
        if self._stalled_since_s is not None and now_s - self._stalled_since_s > deadlines.client_stall_s:
            self.abort()
        elif self._exchange is not None:
            self._exchange.tick(now_s)
        elif now_s > self._deadline_s:
            if self._closing:
                self.abort()
            elif self._request is not None:
                seconds = deadlines.request_read_s
                self._refuse(ReadTimeoutError(f"The request did not arrive whole within {seconds:g} s. Send it again."))
            else:
                self._close()

    def _pump(self) -> None:
        """Answer queued requests until one has to wait for a replica."""
        if self._pumping:
            return
        self._pumping = True
        queue = self._queue
        while queue and self._exchange is None and not self._closing:
            item = queue.popleft()
            if isinstance(item, GatewayError):
                self._end_with(item)
            else:
                dispatch(self._relay, self, item)
        self._pumping = False
        if not queue and self._exchange is None and not self._closing:
            if self._request is None:
                self._deadline_s = time.monotonic() + self._relay.settings.deadlines.keep_alive_s
            if self._deaf:
                self._close()
            elif self._paused:
                self._paused = False
                self._transport.resume_reading()

    def _check_size(self, count: int) -> None:
        """Bound what a request may take on the wire, where framing can make that more than its head and body."""
        limits = self._relay.settings.limits
        self._read_bytes += count
        if self._head.open:
            if self._read_bytes > limits.head_bytes:
                self._refuse(self._head.too_large())
        elif self._read_bytes > 2 * limits.body_bytes + limits.head_bytes:
            self._refuse(self._head.body_too_large())

    def _leave_exchange(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()

    def _refuse(self, error: GatewayError) -> None:
        """Refuse what is being read, after those before it are answered, and end the connection."""
        self._request = None
        self._go_deaf()
        self._queue.append(error)
        if self._exchange is None:
            self._pump()

    def _go_deaf(self) -> None:
        self._deaf = True
        self._body.clear()

    def _end_with(self, error: GatewayError) -> None:
        request = Request(self._relay.ids.next())
        request.keep_alive = False
        self.send_error(request, error)
        self._closing = True
        self._deadline_s = time.monotonic() + _LINGER_S
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _last(self, request: Request) -> bool:
        return not request.keep_alive or self._relay.draining or (self._deaf and not self._queue)

    def _close(self) -> None:
        self._closing = True
        self._transport.close()
