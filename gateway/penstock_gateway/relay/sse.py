"""Server-sent events as engines stream them: cut into whole events, with usage, errors and the end picked out.

A scanner touches bytes, not JSON, as long as nothing in them concerns the gateway. It parses an event only when the
event holds one of three keys; the same text inside a model's answer is escaped in JSON and does not look like them.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from penstock_gateway.metering.usage import Usage


class _Event(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    usage: Usage | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


class EventTooLargeError(ValueError):
    """A stream whose event does not end within the limit."""


_decode_event = msgspec.json.Decoder(_Event).decode
_BOUNDARY: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_TAIL_BYTES: Final = 3
"""The longest start of a boundary that can end a piece of the stream."""


class EventScanner:
    """Takes a stream in pieces of any size and gives back what the client may have, in whole events.

    Args:
        strip_usage: Leave out the chunk that only carries usage: the client did not ask for it.
        event_bytes: Limit of one event.
    """

    __slots__ = ("_event_bytes", "_over", "_partial", "_strip_usage", "done", "error", "tokens", "usage")

    def __init__(self, *, strip_usage: bool, event_bytes: int) -> None:
        self._strip_usage = strip_usage
        self._event_bytes = event_bytes
        self._partial = b""
        self._over = False
        """The end or an error was seen: nothing more is given back."""
        self.usage: Usage | None = None
        self.error: bytes | None = None
        """The `error` value of an error event, as JSON. Nothing after it is given back."""
        self.done = False
        """`[DONE]` was seen. It is not given back: the end is the relay's to announce."""
        self.tokens = 0
        """Chunks with a choice so far: about one token each, less the first one that only opens the message."""

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; return whole events to pass on, possibly none.

        Raises:
            EventTooLargeError: an event exceeds the limit.
        """
        searched = 0
        if self._partial:
            searched = max(0, len(self._partial) - _TAIL_BYTES)
            data = self._partial + data
            self._partial = b""
        if data.endswith(b"\n\n"):
            return self._take(data)
        cut = _last_boundary(data, searched)
        self._partial = rest = data[cut:]
        if len(rest) > self._event_bytes:
            raise EventTooLargeError(f"an event of the stream exceeds {self._event_bytes} bytes")
        return self._take(data[:cut]) if cut else b""

    def _take(self, events: bytes) -> bytes:
        # `find`, since `in` first takes its operand for a number, and pays for the exception.
        find = events.find
        if find(b'"usage"') >= 0 or find(b'"error"') >= 0 or find(b"[DONE]") >= 0 or self._over:
            return b"".join([event for event in _split(events) if self._passes(event)])
        count = events.count(b"\n\ndata:") + events.startswith(b"data:")
        if not self.tokens and count and b'"role"' in events:
            count -= 1
        self.tokens += count
        return events

    def _passes(self, event: bytes) -> bool:
        if self._over:
            return False
        data = event_data(event)
        if data.startswith(b"[DONE]"):
            self.done = self._over = True
            return False
        try:
            seen = _decode_event(data)
        except msgspec.DecodeError:
            return True  # a comment, or nothing we know: the client's to judge
        error = bytes(seen.error)
        if error != b"null":
            self.error = error
            self._over = True
            return False
        if seen.usage is not None:
            self.usage = seen.usage
        if seen.choices:
            self.tokens += 1
            return True
        return not (self._strip_usage and seen.usage is not None and seen.choices is not None)


def event_data(event: bytes) -> bytes:
    """Return an event's data, its `data:` lines joined by newlines."""
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def _split(events: bytes) -> list[bytes]:
    """Cut whole events apart, each with its boundary."""
    parts, start = [], 0
    for match in _BOUNDARY.finditer(events):
        parts.append(events[start : match.end()])
        start = match.end()
    return parts


def _last_boundary(data: bytes, start: int) -> int:
    """Return where the last whole event ends, 0 when none does; nothing before `start` is a boundary."""
    cut = 0
    for match in _BOUNDARY.finditer(data, start):
        cut = match.end()
    return cut
