"""Bytes of answers: heads are put together from parts made once."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

JSON: Final = b"application/json"
EVENT_STREAM: Final = b"text/event-stream; charset=utf-8"
LAST_CHUNK: Final = b"0\r\n\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
DONE_EVENT: Final = b"data: [DONE]\n\n"

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_NO_PHRASE: Final = b"HTTP/1.1 %d \r\n"


def answer_head(
    status: int,
    *,
    date: bytes,
    request_id: bytes,
    content_type: bytes,
    length: int,
    close: bool,
    extra: bytes = b"",
) -> bytes:
    """Return the head of an answer of known length; `extra` is whole header lines."""
    return b"%bdate: %b\r\nx-request-id: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n" % (
        _STATUS_LINES.get(status) or _NO_PHRASE % status,
        date,
        request_id,
        content_type,
        length,
        extra,
        b"connection: close\r\n" if close else b"",
    )


def stream_head(*, date: bytes, request_id: bytes, chunked: bool, close: bool, extra: bytes = b"") -> bytes:
    """Return the head of a stream; without chunked coding, for HTTP/1.0, its end is the connection's."""
    return (
        b"HTTP/1.1 200 OK\r\ndate: %b\r\nx-request-id: %b\r\ncontent-type: %b\r\n"
        b"cache-control: no-cache\r\nx-accel-buffering: no\r\n%b%b%b\r\n"
    ) % (
        date,
        request_id,
        EVENT_STREAM,
        b"transfer-encoding: chunked\r\n" if chunked else b"",
        extra,
        b"connection: close\r\n" if close or not chunked else b"",
    )


def chunk(data: bytes) -> bytes:
    """Return one chunk of chunked coding; nothing for no data, since an empty chunk would end the stream."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def header_lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    """Return header fields as lines."""
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in headers)
