"""Asks a server for its models before a load begins: a wrong address, key or name is said once, not per request."""

from __future__ import annotations

import difflib
import http.client
from urllib.parse import urlsplit

import msgspec

from penstock_loadtest.errors import LoadSettingsError
from penstock_loadtest.settings import LoadSettings

_TIMEOUT_S = 10.0
_MOST_ANSWER_BYTES = 1 << 20
_SHOWN_MODELS = 8


class _Entry(msgspec.Struct):
    id: str


class _Listing(msgspec.Struct):
    data: list[_Entry]


class _Detail(msgspec.Struct):
    message: str


class _Refusal(msgspec.Struct):
    error: _Detail


def check_server(settings: LoadSettings) -> None:
    """Check that the server answers, takes the key and has the model. A server that lists no models passes.

    Raises:
        LoadSettingsError: names the setting, the value and the remedy.
    """
    try:
        status, body = _list_models(settings)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise LoadSettingsError(
            f"url {settings.url!r} does not answer ({reason}); check the address and that the server runs"
        ) from error
    if status in {401, 403}:
        given = "api_key is refused" if settings.api_key else "api_key is missing"
        raise LoadSettingsError(f"{given} ({status}: {_message(body)}); give one that this server knows")
    if status != http.client.OK:
        return
    try:
        names = [entry.id for entry in msgspec.json.decode(body, type=_Listing).data]
    except msgspec.MsgspecError:
        return
    if settings.model not in names:
        raise LoadSettingsError(f"model {settings.model!r} is not served at {settings.url}; {_remedy(settings, names)}")


def _list_models(settings: LoadSettings) -> tuple[int, bytes]:
    """Return status and body of `GET /v1/models`."""
    parts = urlsplit(settings.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
    try:
        connection.request("GET", f"{parts.path.rstrip('/').removesuffix('/v1')}/v1/models", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(_MOST_ANSWER_BYTES)
    finally:
        connection.close()


def _message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Refusal).error.message.rstrip(".")
    except msgspec.MsgspecError:
        return "no reason given"


def _remedy(settings: LoadSettings, names: list[str]) -> str:
    close = difflib.get_close_matches(settings.model, names, 1)
    if close:
        return f"did you mean {close[0]}?"
    if not names:
        return "it serves none yet"
    more = f" and {len(names) - _SHOWN_MODELS} more" if len(names) > _SHOWN_MODELS else ""
    return f"it serves {', '.join(names[:_SHOWN_MODELS])}{more}"
