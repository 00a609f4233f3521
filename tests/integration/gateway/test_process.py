"""The gateway as a process: started by environment, asked by OpenAI's own client, ended by signals."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio.to_thread
import openai
import pytest

from penstock.cost.records import Outcome, UsageRecord
from penstock.cost.spool import SpoolReader
from penstock.routing.snapshot import Replica, RoutingSnapshot, ServedModel, Task, encode_snapshot
from tests.integration.gateway.conftest import body
from tests.support.http import Client, get, post
from tests.support.upstream import Out, Seen, Upstream, chat_chunk, default_handler, usage_chunk

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
Connect = Callable[[int], Awaitable[Client]]
LISTENING = re.compile(r"listening: data \S+ port (\d+), admin \S+ port (\d+)")


@contextmanager
def gateway(folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock_gateway"],
        env={
            **os.environ,
            "PENSTOCK_GATEWAY_DATA_PORT": "0",
            "PENSTOCK_GATEWAY_ADMIN_PORT": "0",
            "PENSTOCK_GATEWAY_SNAPSHOT_FILE": str(folder / "snapshot.json"),
            "PENSTOCK_GATEWAY_SPOOL_DIRECTORY": str(folder / "spool"),
            **environment,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def data_port(process: subprocess.Popen[str]) -> int:
    return both_ports(process)[0]


def both_ports(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Return the data port and the admin port."""
    assert process.stderr is not None
    for line in process.stderr:
        if match := LISTENING.search(line):
            return int(match[1]), int(match[2])
    raise AssertionError("the gateway ended without listening")


@pytest.fixture
async def upstream(tmp_path: Path) -> AsyncIterator[Upstream]:
    upstream = await Upstream().start()
    snapshot = RoutingSnapshot(
        version=1,
        models=(ServedModel(name="m"), ServedModel(name="embed", task=Task.EMBED)),
        replicas=tuple(
            Replica(id=f"{model}.1", model=model, variant="v", address="127.0.0.1", port=upstream.port, prefix="")
            for model in ("m", "embed")
        ),
        anonymous_tenant="default",
    )
    (tmp_path / "snapshot.json").write_bytes(encode_snapshot(snapshot))
    yield upstream
    await upstream.stop()


async def test_openais_client_and_a_graceful_end(tmp_path: Path, upstream: Upstream):
    with gateway(tmp_path, PENSTOCK_GATEWAY_ACCESS_LOG="true") as process:
        port = await anyio.to_thread.run_sync(data_port, process)
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0) as client:
            messages = [{"role": "user", "content": "a secret question"}]
            stream = await client.chat.completions.create(model="m", messages=messages, max_tokens=3, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            assert text == "word0 word1 word2 "
            whole = await client.chat.completions.create(model="m", messages=messages, max_tokens=2)
            assert whole.usage.completion_tokens == 2
            assert whole._request_id
            assert (await client.embeddings.create(model="embed", input="x")).usage.prompt_tokens == 7
            assert [model.id async for model in client.models.list()] == ["embed", "m"]
            with pytest.raises(openai.NotFoundError) as caught:
                await client.chat.completions.create(model="nope", messages=messages)
            assert caught.value.code == "model_not_found"
        process.send_signal(signal.SIGTERM)
        _, log = await anyio.to_thread.run_sync(process.communicate)
    assert process.returncode == 0
    assert "secret" not in log
    assert "Traceback" not in log
    entries = [json.loads(line[line.index("{") :]) for line in log.splitlines() if "access" in line]
    assert [entry["status"] for entry in entries] == [200, 200, 200]
    lines = [line for batch in SpoolReader(tmp_path / "spool").read({}) for line in batch.records]
    records = [line for line in lines if isinstance(line, UsageRecord)]
    assert [record.id for record in records] == [entry["id"] for entry in entries]
    assert [record.completion_tokens for record in records] == [3, 2, 0]


def test_settings_that_are_missing_or_wrong_are_named():
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PENSTOCK_")}
    wrong = {**environment, "PENSTOCK_GATEWAY_DATA_PORT": "x", "PENSTOCK_GATEWAY_DEADLINES__CONNECT_S": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "penstock_gateway"], env=wrong, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    for name in ("SNAPSHOT_FILE", "SPOOL_DIRECTORY", "DATA_PORT", "DEADLINES__CONNECT_S"):
        assert f"PENSTOCK_GATEWAY_{name}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "PENSTOCK_GATEWAY_SNAPSHOT_FILE: Value error, neither is given"),
        (
            {"PENSTOCK_GATEWAY_SNAPSHOT_FILE": "x", "PENSTOCK_GATEWAY_KUBERNETES__ENABLED": "true"},
            "PENSTOCK_GATEWAY_SNAPSHOT_FILE: Value error, both are given",
        ),
        ({"PENSTOCK_GATEWAY_KUBERNETES__NAMESPACES": '["a"'}, "PENSTOCK_GATEWAY_KUBERNETES__NAMESPACES"),
        ({"PENSTOCK_GATEWAY_KUBERNETES__NAMESPACES": "[7]"}, "PENSTOCK_GATEWAY_KUBERNETES__NAMESPACES"),
        ({"PENSTOCK_GATEWAY_KUBERNETES": "yes"}, "kubernetes"),
        (
            {"PENSTOCK_GATEWAY_KUBERNETES__ENABLED": "true", "PENSTOCK_GATEWAY_KUBERNETES__KUBECONFIG": "/nowhere"},
            "PENSTOCK_GATEWAY_KUBERNETES__KUBECONFIG",
        ),
        (
            {"PENSTOCK_GATEWAY_SNAPSHOT_FILE": "x", "PENSTOCK_GATEWAY_ADMIN_TOKEN_FILE": "/nowhere"},
            "/nowhere",
        ),
        (
            {
                "PENSTOCK_GATEWAY_SNAPSHOT_FILE": "x",
                "PENSTOCK_GATEWAY_ADMIN_TOKEN_FILE": "/nowhere",
                "PENSTOCK_GATEWAY_ADMIN_TOKEN": "t",
            },
            "PENSTOCK_GATEWAY_ADMIN_TOKEN is set too",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path: Path, environment: dict[str, str], said: str):
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("PENSTOCK_", "KUBE"))}
    own = {
        "PENSTOCK_GATEWAY_SPOOL_DIRECTORY": str(tmp_path),
        "PENSTOCK_GATEWAY_DATA_PORT": "0",
        "PENSTOCK_GATEWAY_ADMIN_PORT": "0",
        **environment,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "penstock_gateway"],
        env={**clean, **own},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


class Streams:
    """An engine whose streams go on until they are released."""

    def __init__(self, upstream: Upstream) -> None:
        self.release = asyncio.Event()
        self.upstream = upstream
        upstream.handler = self._handle

    async def _handle(self, seen: Seen, out: Out) -> None:
        if seen.method != "POST" or not seen.json.get("stream"):
            await default_handler(seen, out)
            return
        await out.open_stream()
        await out.event(chat_chunk({"role": "assistant", "content": ""}))
        await self.release.wait()
        await out.event(chat_chunk({"content": "late"}, "stop"))
        await out.event(usage_chunk(1))
        await out.done()


async def ask_until_refused(port: int) -> int:
    """Ask on new connections until none is taken any more; return how many answers there were."""
    for count in range(100_000):
        try:
            client = await Client.connect(port)
        except OSError:
            return count
        try:
            answer = await client.ask(post(CHAT, body()))
            assert (answer.status, answer.headers.get("connection")) == (200, "close")
            assert await client.at_end()
        except ConnectionResetError:  # it was still in the listener's queue
            return count
        finally:
            client.abort()
    raise AssertionError("the gateway goes on taking connections")


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Open connections that are closed with the test."""
    clients: list[Client] = []

    async def connect(port: int) -> Client:
        clients.append(await Client.connect(port))
        return clients[-1]

    yield connect
    for client in clients:
        client.abort()


async def test_sigterm_cuts_no_stream_and_answers_what_comes_until_services_have_forgotten_the_pod(
    tmp_path: Path, upstream: Upstream, connect: Connect
):
    streams = Streams(upstream)
    with gateway(tmp_path, PENSTOCK_GATEWAY_DEADLINES__DRAIN_DELAY_S="2") as process:
        port, admin_port = await anyio.to_thread.run_sync(both_ports, process)
        open_streams = [await connect(port) for _ in range(6)]
        for client in open_streams:
            await client.send(post(CHAT, body(stream=True)))
            assert (await client.head())[0] == 200
        idle = await connect(port)
        assert "connection" not in (await idle.ask(post(CHAT, body()))).headers
        process.send_signal(signal.SIGTERM)
        prober = await connect(admin_port)
        while (await prober.ask(get("/readyz"))).status != 503:
            pass
        assert (await idle.ask(post(CHAT, body()))).headers["connection"] == "close"
        assert await idle.at_end()
        assert await ask_until_refused(port) > 0
        assert process.poll() is None
        streams.release.set()
        for client in open_streams:
            parts = []
            while part := await client.chunk():
                parts.append(part)
            assert b"".join(parts).endswith(b"data: [DONE]\n\n")
            assert await client.at_end()
        _, log = await anyio.to_thread.run_sync(process.communicate)
    assert process.returncode == 0, log
    assert "Traceback" not in log
    lines = [line for batch in SpoolReader(tmp_path / "spool").read({}) for line in batch.records]
    records = [line for line in lines if isinstance(line, UsageRecord)]
    assert {record.outcome for record in records} == {Outcome.COMPLETE}
    assert len(records) == len(upstream.requests)


async def test_a_second_signal_ends_the_process_at_once(tmp_path: Path, upstream: Upstream, connect: Connect):
    Streams(upstream)
    with gateway(tmp_path, PENSTOCK_GATEWAY_DEADLINES__DRAIN_DELAY_S="600") as process:
        port, admin_port = await anyio.to_thread.run_sync(both_ports, process)
        client = await connect(port)
        await client.send(post(CHAT, body(stream=True)))
        assert (await client.head())[0] == 200
        process.send_signal(signal.SIGTERM)
        prober = await connect(admin_port)
        while (await prober.ask(get("/readyz"))).status != 503:
            pass
        process.send_signal(signal.SIGTERM)
        _, log = await anyio.to_thread.run_sync(process.communicate)
    assert process.returncode == 0, log
    lines = [line for batch in SpoolReader(tmp_path / "spool").read({}) for line in batch.records]
    assert [line.outcome for line in lines if isinstance(line, UsageRecord)] == [Outcome.CANCELLED]


async def test_a_port_in_use_is_an_error_without_a_traceback(tmp_path: Path, upstream: Upstream):
    with gateway(tmp_path, PENSTOCK_GATEWAY_DATA_PORT=str(upstream.port)) as process:
        _, log = await anyio.to_thread.run_sync(process.communicate)
        assert process.returncode == 2
    assert "in use" in log
    assert str(upstream.port) in log
    assert "Traceback" not in log
