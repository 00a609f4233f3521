"""The client's half of the protocol, against a server that can be told to misbehave."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from penstock.serve.client import ServeClient
from penstock.serve.errors import (
    ServeError,
    ServeNotFoundError,
    ServeRefusedError,
    ServeUnauthorizedError,
    ServeUnavailableError,
    ServeUnreachableError,
)

pytestmark = pytest.mark.anyio


@dataclass
class Server:
    status: int = 200
    answer: bytes = b"{}"
    seen: list[tuple[str, str, str | None, object]] = field(default_factory=list)
    url: str = ""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            state.seen.append((self.command, self.path, self.headers.get("authorization"), body))
            self.send_response(state.status)
            self.send_header("content-length", str(len(state.answer)))
            self.end_headers()
            self.wfile.write(state.answer)

        do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - names that the standard library looks up

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


async def test_each_call_is_the_request_that_serve_knows_with_the_token(server):
    async with ServeClient(server.url, "s3cret") as client:
        await client.status()
        await client.put({"applications": []})
        await client.scale("tiny--cpu", "Engine", 0)
        await client.delete_all()
    bearer = "Bearer s3cret"
    assert server.seen == [
        ("GET", "/api/serve/applications/", bearer, None),
        ("PUT", "/api/serve/applications/", bearer, {"applications": []}),
        ("POST", "/api/v1/applications/tiny--cpu/deployments/Engine/scale", bearer, {"target_num_replicas": 0}),
        ("DELETE", "/api/serve/applications/", bearer, None),
    ]


async def test_a_cluster_without_authentication_gets_no_header(server):
    async with ServeClient(server.url) as client:
        await client.status()
    assert server.seen[0][2] is None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ServeRefusedError),
        (401, ServeUnauthorizedError),
        (403, ServeUnauthorizedError),
        (404, ServeNotFoundError),
        (412, ServeRefusedError),
        (503, ServeUnavailableError),
    ],
)
async def test_each_error_status_has_its_class_and_carries_serve_s_words(server, status, error):
    server.status, server.answer = status, b'{"error": "because"}'
    async with ServeClient(server.url) as client:
        with pytest.raises(error, match="because"):
            await client.put({})


async def test_an_answer_that_is_not_json_is_worth_another_try(server):
    server.answer = b"<html>"
    async with ServeClient(server.url) as client:
        with pytest.raises(ServeUnavailableError):
            await client.status()


async def test_a_status_is_the_same_object_until_something_of_it_changes(server):
    async with ServeClient(server.url) as client:
        server.answer = (
            b'{"controller_health_metrics": {"uptime_s": 1.0}, "applications": {"a": {"status": "RUNNING"}}}'
        )
        first = await client.status()
        server.answer = server.answer.replace(b"1.0", b"2.0")
        assert await client.status() is first
        server.answer = server.answer.replace(b"RUNNING", b"DELETING")
        assert (await client.status()).applications["a"].status == "DELETING"


async def test_a_token_that_changes_is_used_from_then_on(server):
    async with ServeClient(server.url, "one") as client:
        await client.status()
        client.authenticate("two")
        await client.status()
    assert [seen[2] for seen in server.seen] == ["Bearer one", "Bearer two"]


async def test_nobody_there_is_told_with_the_address():
    with serving() as server:
        url = server.url
    async with ServeClient(url) as client:
        with pytest.raises(ServeUnreachableError, match=url.removeprefix("http://")) as raised:
            await client.status()
    assert isinstance(raised.value, ServeError)
