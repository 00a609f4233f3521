"""A request as the relay sees it: what its head says, and the few fields of its body that decide where it goes."""

from __future__ import annotations

from typing import Final

import msgspec

from penstock_gateway.errors import BadRequestError


class Request:
    """One request, read whole. Plain attributes: one is made for every request."""

    __slots__ = (
        "answer_fields",
        "authorization",
        "body",
        "client_request_id",
        "forwarded",
        "head_only",
        "http10",
        "id",
        "keep_alive",
        "method",
        "path",
        "received_s",
        "tenant_name",
        "why",
    )

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self.method = b""
        self.path = b""
        self.authorization: bytes | None = None
        self.client_request_id = b""
        self.answer_fields = b""
        """Header lines that go to the client with the answer, each with its line end."""
        self.forwarded = b""
        """Header lines that go to the engine with the request, each with its line end."""
        self.body = b""
        self.http10 = False
        self.head_only = False
        """A HEAD request: the answer's body is left out."""
        self.keep_alive = True
        self.why = False
        """It asks where it would go instead of going there; heeded with the admin token only."""
        self.tenant_name = b""
        """Whose request it is to be taken for when it asks why."""
        self.received_s = 0.0
        """Monotonic time at which the request was complete."""


_ABSENT: Final = msgspec.Raw(b"")


class StreamOptions(msgspec.Struct):
    """The part of `stream_options` that metering needs."""

    include_usage: bool | None = None


class Peek(msgspec.Struct):
    """The fields of an inference body that the gateway reads; all others are passed over, but checked to be JSON.

    What stands inside strings that are passed over, valid UTF-8 or not, is for the engine to judge: it reads them.
    """

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | msgspec.UnsetType | None = msgspec.UNSET
    prompt_cache_key: msgspec.Raw = msgspec.Raw(b"null")
    """OpenAI's name for requests that belong together, as it stands in the body: they stay with one variant."""
    messages: msgspec.Raw = _ABSENT
    """This and the following: what engines cache the beginning of. Only their bytes are compared."""
    prompt: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT


_decode_peek = msgspec.json.Decoder(Peek).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode

_USAGE_FIRST: Final = b'{"stream_options":{"include_usage":true},'


def peek(body: bytes) -> Peek:
    """Read the fields that decide where a request goes.

    Raises:
        BadRequestError: the body is not a JSON object with these fields; `param` names the field.
    """
    try:
        return _decode_peek(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except msgspec.DecodeError as error:
        detail = str(error) if body else "it is empty"
        raise BadRequestError(f"The request body is not valid JSON: {detail}. Send one JSON object.") from None
    except UnicodeDecodeError:
        raise BadRequestError("The request body is not valid UTF-8. Send JSON encoded as UTF-8.") from None
    except RecursionError:
        raise BadRequestError("The request body is nested too deeply. Flatten it.") from None


def wants_usage(peeked: Peek) -> bool:
    """Return whether the client itself asked for the usage chunk at the end of a stream."""
    options = peeked.stream_options
    return isinstance(options, StreamOptions) and options.include_usage is True


def upstream_body(body: bytes, peeked: Peek, served_name: str) -> bytes:
    """Return the body for the engine: under the name the engine knows, with usage asked for when it streams.

    Every value that is not named here keeps its bytes. A body that needs no change is returned as it came.
    """
    renamed = peeked.model != served_name
    forced = peeked.stream is True and not wants_usage(peeked)
    if not renamed and not forced:
        return body
    if not renamed and peeked.stream_options is msgspec.UNSET:
        # `model` is there, so the object is not empty and a comma may follow.
        return _USAGE_FIRST + body[body.index(b"{") + 1 :]
    fields: dict[str, object] = dict(_decode_fields(body))
    fields["model"] = served_name
    if forced:
        given = fields.get("stream_options")
        options = _decode_fields(given) if isinstance(peeked.stream_options, StreamOptions) else {}  # type: ignore[arg-type]
        fields["stream_options"] = {**options, "include_usage": True}
    return _encode(fields)


def _invalid(message: str) -> BadRequestError:
    """Turn msgspec's message, which ends in the JSON path, into one that names the field and the remedy."""
    what, _, path = message.partition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    if not field:
        prefix = "Object missing required field `"
        if what.startswith(prefix):
            name = what.removeprefix(prefix).rstrip("`")
            error = BadRequestError(f"The field {name!r} is missing. Name a model from GET /v1/models.", param=name)
            error.code = "missing_required_parameter"
            return error
        return BadRequestError(f"The request body has the wrong type: {what.lower()}. Send one JSON object.")
    error = BadRequestError(f"The field {field!r} has the wrong type: {what.lower()}. Correct its value.", param=field)
    error.code = "invalid_type"
    return error
