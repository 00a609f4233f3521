"""How an answer's body reaches the client: whole, event by event, or, when it is an error, not as it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from penstock_gateway.errors import EngineFailedError
from penstock_gateway.metering.usage import Usage
from penstock_gateway.relay import wire
from penstock_gateway.relay.engine_errors import stream_error
from penstock_gateway.relay.sse import EventScanner, EventTooLargeError

if TYPE_CHECKING:
    from penstock_gateway.relay.exchange import Exchange

_ERROR_BODY_BYTES: Final = 64 * 1024
"""Of an error's body; the rest is not looked at."""


class _UsageOnly(msgspec.Struct):
    usage: Usage | None = None


_decode_usage = msgspec.json.Decoder(_UsageOnly).decode


class Answer(Protocol):
    """Takes an answer's body as it comes."""

    def data(self, data: bytes) -> None:
        """Some of it."""

    def end(self) -> None:
        """All of it was there."""

    def usage_so_far(self) -> tuple[Usage | None, int]:
        """Return the engine's count, if it was seen, and the completion tokens that went by."""
        ...


class UnaryAnswer:
    """An answer in one piece. It is held until it is whole, since its usage must be on disk before its last byte."""

    __slots__ = ("_content_type", "_exchange", "_first", "_rest", "_size", "_status")

    def __init__(self, exchange: Exchange, status: int, content_type: bytes) -> None:
        self._exchange = exchange
        self._status = status
        self._content_type = content_type or wire.JSON
        self._first = b""
        self._rest: list[bytes] | None = None
        self._size = 0

    def data(self, data: bytes) -> None:
        """Keep it."""
        self._size += len(data)
        if not self._first:
            self._first = data
        elif self._rest is None:
            self._rest = [data]
        else:
            self._rest.append(data)
        limit = self._exchange.relay.settings.limits.answer_bytes
        if self._size > limit:
            self._exchange.fail(
                EngineFailedError(f"The engine's answer exceeds {limit} bytes. Ask for less at a time.")
            )

    def end(self) -> None:
        """Count it, then pass it on."""
        exchange = self._exchange
        body = self._first if self._rest is None else b"".join((self._first, *self._rest))
        try:
            usage = _decode_usage(body).usage
        except (msgspec.DecodeError, UnicodeDecodeError):
            usage = None
        exchange.complete(usage)
        exchange.client.send_answer(exchange.request, self._status, self._content_type, body)
        exchange.leave()

    def usage_so_far(self) -> tuple[Usage | None, int]:
        """Nothing is known before the end."""
        return None, 0


class StreamAnswer:
    """An answer as events, each passed on as soon as it is whole."""

    __slots__ = ("_exchange", "_scanner")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._scanner = EventScanner(
            strip_usage=not exchange.wants_usage, event_bytes=exchange.relay.settings.limits.event_bytes
        )

    def data(self, data: bytes) -> None:
        """Pass on the events that are whole; the client's head goes with the first of them."""
        exchange, scanner = self._exchange, self._scanner
        try:
            events = scanner.feed(data)
        except EventTooLargeError:
            exchange.fail(EngineFailedError("The engine sent an event that is too large. Send the request again."))
            return
        if events:
            if exchange.first_token_s is None:
                exchange.first_token_s = time.monotonic()
            if exchange.answered:
                exchange.client.send_chunk(exchange.request, events)
            else:
                exchange.answered = True
                exchange.client.start_stream(exchange.request, events)
        if scanner.error is not None:
            error, replica_failed = stream_error(scanner.error)
            if replica_failed:
                exchange.replica_died()
            exchange.fail(error)

    def end(self) -> None:
        """Count it, then announce its end; a stream that ends without `[DONE]` was cut."""
        exchange, scanner = self._exchange, self._scanner
        if not scanner.done:
            exchange.upstream_lost()
            return
        exchange.complete(scanner.usage, scanner.tokens)
        if not exchange.answered:
            exchange.client.start_stream(exchange.request, b"")
        exchange.client.end_stream(exchange.request, wire.DONE_EVENT)
        exchange.leave()

    def usage_so_far(self) -> tuple[Usage | None, int]:
        """Return the final count when the engine sent it already, else the tokens passed on."""
        return self._scanner.usage, self._scanner.tokens


class ErrorAnswer:
    """A replica's error: never passed on as it is."""

    __slots__ = ("_body", "_exchange", "_status")

    def __init__(self, exchange: Exchange, status: int) -> None:
        self._exchange = exchange
        self._status = status
        self._body = b""

    def data(self, data: bytes) -> None:
        """Keep the start of it."""
        if len(self._body) < _ERROR_BODY_BYTES:
            self._body += data

    def end(self) -> None:
        """Let the exchange decide."""
        self._exchange.refused(self._status, self._body)

    def usage_so_far(self) -> tuple[Usage | None, int]:
        """An error used nothing that an engine reports."""
        return None, 0
