"""The gateway as a process: started by environment, asked by OpenAI's own client, ended by signals."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio.to_thread
import openai
import pytest

from penstock.cost.records import UsageRecord
from penstock.cost.spool import SpoolReader
from penstock.routing.snapshot import Replica, RoutingSnapshot, ServedModel, Task, encode_snapshot
from tests.support.upstream import Upstream

pytestmark = pytest.mark.anyio
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
    assert process.stderr is not None
    for line in process.stderr:
        if match := LISTENING.search(line):
            return int(match[1])
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


async def test_a_port_in_use_is_an_error_without_a_traceback(tmp_path: Path, upstream: Upstream):
    with gateway(tmp_path, PENSTOCK_GATEWAY_DATA_PORT=str(upstream.port)) as process:
        _, log = await anyio.to_thread.run_sync(process.communicate)
        assert process.returncode == 2
    assert "in use" in log
    assert str(upstream.port) in log
    assert "Traceback" not in log
