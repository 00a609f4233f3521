"""What clients see when the engine fails: an OpenAI error with all four keys, never a traceback or exception text.

vLLM shapes most of its errors itself. What it leaves open, and this module closes:

* a server-side error's message is the text of the Python exception;
* an exception that no handler knows, or one after the answer began, is left to the server underneath;
* a stream that fails ends in an error event and then `[DONE]`, as if it were complete;
* a malformed request is answered with the repr of pydantic's error dictionaries;
* an unknown path or method is answered in FastAPI's shape, not OpenAI's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("ray.serve")

_ERROR_EVENT = b'data: {"error"'
_MESSAGES = {
    500: "The engine failed while it worked on this request.",
    501: "The engine does not offer what this request asks for.",
    503: "The engine cannot take this request now; try again.",
    504: "The engine did not answer in time.",
}
_TYPE_NAMES = frozenset({"bool", "bytes", "dict", "float", "int", "list", "str", "tuple"})
"""What pydantic appends to the path of a field that may have several types."""
_FIELDS_SHOWN = 5
_REASON_CHARACTERS = 200


def error_body(
    status: int, message: str | None = None, *, kind: str = "server_error", param: str | None = None
) -> bytes:
    """Return an OpenAI error as JSON, with all four keys that clients may rely on.

    Args:
        status: HTTP status, 400 to 599; picks the message when none is given.
        message: For people.
        kind: The `type` key.
        param: The request field at fault.
    """
    error = {"message": message or _MESSAGES.get(status, _MESSAGES[500]), "type": kind, "param": param, "code": None}
    return json.dumps({"error": error}, separators=(",", ":")).encode()


def describe_invalid_fields(errors: Sequence[MutableMapping[str, Any]]) -> tuple[str, str | None]:
    """Put pydantic's list of errors in words.

    Args:
        errors: Dictionaries with `loc` (path of names and indices that starts with `body`) and `msg`.

    Returns:
        A message that names each field once, and the path of the first one, or None for the body as a whole.
    """
    reasons: dict[str, str] = {}
    for error in errors:
        path, reason = _field_path(error.get("loc", ())), str(error.get("msg", "is invalid"))
        if error.get("type") == "json_invalid":
            path, reason = "", "not valid JSON"
        reasons.setdefault(path, reason[:_REASON_CHARACTERS])
    if not reasons:
        return "The request is invalid.", None
    shown = [f"{path or 'request body'}: {reason}" for path, reason in list(reasons.items())[:_FIELDS_SHOWN]]
    if len(reasons) > _FIELDS_SHOWN:
        shown.append(f"and {len(reasons) - _FIELDS_SHOWN} more")
    return "; ".join(shown), next(iter(reasons)) or None


def _field_path(loc: Sequence[str | int]) -> str:
    names = [str(part) for part in loc if isinstance(part, int) or (part.isidentifier() and part not in _TYPE_NAMES)]
    return ".".join(names[1:] if names[:1] == ["body"] else names)


class FaultShield:
    """ASGI middleware that replaces the bodies of server-side errors and ends broken streams honestly.

    Client errors (4xx) pass: their messages are written for the client. Chunks of a healthy stream cost one
    comparison of their first bytes.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of any ASGI type; all but HTTP passes untouched."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _ShieldedAnswer(send, scope["path"])
        try:
            await self.app(scope, receive, answer.send)
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if not await answer.end_in_error():
                raise


class _ShieldedAnswer:
    """One answer on its way out."""

    def __init__(self, send: Send, path: str) -> None:
        self._send = send
        self._path = path
        self._started = False
        self._finished = False
        self._replaced_status: int | None = None
        self._is_stream = False
        self._broken = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            if not self._is_stream and self._replaced_status is None:
                self._finished = not message.get("more_body", False)
                await self._send(message)
                return
            await self._send_guarded(message)
        elif message["type"] == "http.response.start":
            await self._start(message)
        else:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        self._started = True
        if message["status"] >= 500:
            self._replaced_status = message["status"]
            return
        self._is_stream = _header(message, b"content-type").startswith(b"text/event-stream")
        await self._send(message)

    async def _send_guarded(self, message: Message) -> None:
        last = not message.get("more_body", False)
        if self._replaced_status is not None:
            if message.get("body"):
                logger.error("%s answered %s: %s", self._path, self._replaced_status, _clip(message["body"]))
            if last:
                await self._answer(self._replaced_status)
            return
        body = message.get("body", b"")
        if self._broken:
            body = b""  # `[DONE]` after an error would tell the client that the answer is complete
        elif body.startswith(_ERROR_EVENT):
            self._broken = True
            logger.error("%s broke off: %s", self._path, _clip(body))
            body = _error_event()
        self._finished = last
        if body or last:
            await self._send({"type": "http.response.body", "body": body, "more_body": not last})

    async def end_in_error(self) -> bool:
        """End the answer as well as its state allows; False when only closing the connection tells the truth."""
        if self._finished:
            return True
        if not self._started or self._replaced_status is not None:
            await self._answer(self._replaced_status or 500)
            return True
        if not self._is_stream:
            return False
        body = b"" if self._broken else _error_event()
        self._finished = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
        return True

    async def _answer(self, status: int) -> None:
        body = error_body(status)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        self._finished = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _error_event() -> bytes:
    return b"data: " + error_body(500) + b"\n\n"


def _header(message: Message, name: bytes) -> bytes:
    for key, value in message.get("headers", ()):
        if key.lower() == name:
            return bytes(value)
    return b""


def _clip(body: bytes) -> str:
    return body[:2000].decode(errors="replace")
