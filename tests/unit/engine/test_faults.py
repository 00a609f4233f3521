"""No exception text reaches a client, every error has the four keys, and a broken stream does not look complete."""

import json
from typing import Any

import pytest

from penstock_engine.faults import App, FaultShield, describe_invalid_fields, error_body

pytestmark = pytest.mark.anyio

SECRET = "Traceback: secret at /srv/engine.py"
KEYS = {"message", "type", "param", "code"}


class Recorder:
    """What went out on the wire."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def send(self, message: Any) -> None:
        self.messages.append(dict(message))

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def complete(self) -> bool:
        return self.messages[-1].get("more_body", False) is False


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _ask(app: App) -> Recorder:
    recorder = Recorder()
    await FaultShield(app)({"type": "http", "method": "POST", "path": "/v1/x"}, _receive, recorder.send)
    return recorder


def _app(*messages: Any, error: Exception | None = None) -> App:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return app


def _start(status: int = 200, kind: str = "application/json", **extra: str) -> Any:
    headers = [(b"content-type", kind.encode()), *((k.encode(), v.encode()) for k, v in extra.items())]
    return {"type": "http.response.start", "status": status, "headers": headers}


def _body(body: bytes, more: bool = False) -> Any:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def test_a_good_answer_passes_untouched():
    answer = await _ask(_app(_start(), _body(b'{"a":', more=True), _body(b"1}")))
    assert answer.messages == [_start(), _body(b'{"a":', more=True), _body(b"1}")]


async def test_a_client_error_passes_untouched():
    answer = await _ask(_app(_start(400), _body(b'{"error":{"message":"too long"}}')))
    assert (answer.status, answer.body) == (400, b'{"error":{"message":"too long"}}')


@pytest.mark.parametrize("status", [500, 501, 503])
async def test_a_server_error_loses_its_text_and_keeps_its_status(status: int):
    body = SECRET.encode()
    answer = await _ask(_app(_start(status, etag="x"), _body(body[:5], more=True), _body(body[5:])))
    assert answer.status == status
    assert SECRET.encode() not in answer.body
    assert set(json.loads(answer.body)["error"]) == KEYS
    assert (b"content-length", str(len(answer.body)).encode()) in answer.messages[0]["headers"]


async def test_an_exception_before_the_answer_becomes_one():
    answer = await _ask(_app(error=RuntimeError(SECRET)))
    assert (answer.status, answer.complete) == (500, True)
    assert set(json.loads(answer.body)["error"]) == KEYS
    assert SECRET.encode() not in answer.body


async def test_an_exception_in_the_middle_of_a_server_error_completes_it():
    answer = await _ask(_app(_start(503), _body(b"half", more=True), error=RuntimeError(SECRET)))
    assert (answer.status, answer.complete) == (503, True)


async def test_an_exception_after_the_answer_changes_nothing():
    answer = await _ask(_app(_start(), _body(b"{}"), error=RuntimeError(SECRET)))
    assert answer.messages == [_start(), _body(b"{}")]


async def test_a_plain_answer_that_breaks_off_is_not_completed():
    with pytest.raises(RuntimeError):
        await _ask(_app(_start(), _body(b'{"a":', more=True), error=RuntimeError(SECRET)))


async def test_a_stream_that_breaks_off_ends_in_an_error_event():
    answer = await _ask(
        _app(_start(kind="text/event-stream"), _body(b"data: {}\n\n", more=True), error=OSError(SECRET))
    )
    first, event = answer.body.split(b"\n\n")[:2]
    assert first == b"data: {}"
    assert set(json.loads(event.removeprefix(b"data: "))["error"]) == KEYS
    assert answer.complete


async def test_an_error_event_is_shaped_and_no_done_follows():
    event = b'data: {"error": {"message": "' + SECRET.encode() + b'", "code": 500}}\n\n'
    stream = _start(kind="text/event-stream; charset=utf-8")
    answer = await _ask(
        _app(stream, _body(b"data: {}\n\n", True), _body(event, True), _body(b"data: [DONE]\n\n", True), _body(b""))
    )
    assert answer.body == b"data: {}\n\ndata: " + error_body(500) + b"\n\n"
    assert answer.complete


async def test_a_healthy_stream_passes_chunk_by_chunk():
    chunks = [b'data: {"choices": []}\n\n', b"data: [DONE]\n\n"]
    answer = await _ask(_app(_start(kind="text/event-stream"), *(_body(chunk, True) for chunk in chunks), _body(b"")))
    assert [message.get("body") for message in answer.messages[1:]] == [*chunks, b""]


async def test_lifespan_and_websockets_are_not_its_business():
    seen = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    await FaultShield(app)({"type": "lifespan"}, _receive, Recorder().send)
    assert seen == ["lifespan"]


@pytest.mark.parametrize(
    ("errors", "message", "param"),
    [
        ([{"loc": ("body", "messages"), "msg": "Field required"}], "messages: Field required", "messages"),
        (
            [{"loc": ("body", 9), "msg": "JSON decode error", "type": "json_invalid"}],
            "request body: not valid JSON",
            None,
        ),
        (
            [
                {"loc": ("body", "function-wrap[f()]", "input", "list[str]"), "msg": "a list"},
                {"loc": ("body", "input", "str"), "msg": "a string"},
            ],
            "input: a list",
            "input",
        ),
        ([], "The request is invalid.", None),
    ],
)
def test_invalid_fields_are_put_in_words(errors: list[Any], message: str, param: str | None):
    assert describe_invalid_fields(errors) == (message, param)


def test_only_the_first_invalid_fields_are_listed():
    message, param = describe_invalid_fields([{"loc": ("body", f"f{n}"), "msg": "x" * 1000} for n in range(100)])
    assert message.endswith("and 95 more")
    assert len(message) < 2000
    assert param == "f0"
