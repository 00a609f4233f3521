"""Engines' own errors, brought into OpenAI's shape without anything of an engine's insides."""

from __future__ import annotations

from typing import Final

import msgspec

from penstock_gateway.errors import INVALID_REQUEST, EngineFailedError, EngineRefusalError, ErrorBody, GatewayError

_TYPES: Final = {429: "rate_limit_error"}
_CODES: Final = {404: "not_found", 408: "request_timeout", 413: "request_too_large", 429: "rate_limit_exceeded"}
_MESSAGE_BYTES: Final = 2000
_DEAD_MARKS: Final = (b"EngineCore", b"EngineDead")
"""vLLM's words when the process behind its HTTP server is gone; the server outlives it by half a second or more."""


class _EngineError(msgspec.Struct):
    message: str | None = None
    param: str | None = None
    code: int | str | None = None


class _EngineBody(msgspec.Struct):
    """The shapes in use: OpenAI's, vLLM's older flat one, and FastAPI's."""

    error: _EngineError | str | None = None
    message: str | None = None
    param: str | None = None
    code: int | str | None = None
    detail: str | None = None


_decode_body = msgspec.json.Decoder(_EngineBody).decode
_decode_error = msgspec.json.Decoder(_EngineError).decode


def is_engine_dead(body: bytes) -> bool:
    """Return whether an error says that the engine itself is gone."""
    return any(mark in body for mark in _DEAD_MARKS)


def shape_engine_error(status: int, body: bytes) -> GatewayError:
    """Return the error that the client gets for a replica's error answer.

    A 4xx keeps its message, which is about the request. Anything else is told in our words only.
    """
    if not 400 <= status < 500:
        return EngineFailedError("The engine failed on this request. It may be sent again.")
    try:
        seen = _decode_body(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        seen = _EngineBody()
    inner = seen.error
    if isinstance(inner, str):
        inner = _EngineError(message=inner)
    if inner is None:
        inner = _EngineError(message=seen.message or seen.detail, param=seen.param, code=seen.code)
    return _refusal(status, inner)


def stream_error(error: bytes) -> tuple[GatewayError, bool]:
    """Return what a client gets for an error event, and whether the replica is to blame.

    Args:
        error: The event's `error` value, as JSON.
    """
    try:
        seen = _decode_error(error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        seen = _EngineError()
    status = seen.code if isinstance(seen.code, int) else 500
    if 400 <= status < 500 and seen.message and not is_engine_dead(error):
        return _refusal(status, seen), False
    return EngineFailedError("The engine failed in the middle of this answer. Send the request again."), True


def _refusal(status: int, seen: _EngineError) -> EngineRefusalError:
    message = (seen.message or f"The engine refused this request with status {status}.")[:_MESSAGE_BYTES]
    kind = _TYPES.get(status, INVALID_REQUEST)
    return EngineRefusalError(status, ErrorBody(message, kind, seen.param, _code(status, seen.code, message)))


def _code(status: int, given: int | str | None, message: str) -> str | None:
    """Return OpenAI's code, which clients branch on; engines send the HTTP status in its place."""
    if "maximum context length" in message:
        return "context_length_exceeded"
    if isinstance(given, str) and not given.isdigit():
        return given
    return _CODES.get(status)
