"""A real vLLM engine in a real Serve replica, asked on the replica's own port.

The tests run in the order in which they stand: the last ones kill, drain and end the replicas that the first ones ask.
"""

from __future__ import annotations

import math
import os
import signal

import httpx2
import pytest

from penstock.engines import get_engine
from tests.integration.engine.replicas import (
    Serving,
    alive,
    core_of,
    events,
    family,
    shared_memory,
    wait_until,
)
from tests.support.ray_head import RayHead

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

KEYS = {"message", "type", "param", "code"}


def _chat(content: str, **more: object) -> dict[str, object]:
    return {"model": "chat", "messages": [{"role": "user", "content": content}], "max_tokens": 16, **more}


def test_the_rest_interface_demands_the_token(head: RayHead):
    path = head.address + "/api/serve/applications/"
    assert httpx2.get(path).status_code == 401
    assert httpx2.get(path, headers={"authorization": "Bearer guess"}).status_code == 403
    assert httpx2.put(path, json={"applications": []}).status_code == 401


def test_an_answer_is_printable_and_as_long_as_asked(serving: Serving):
    with serving.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=_chat("Say something.", max_tokens=200)).json()
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["content"]) == answer["usage"]["completion_tokens"] == 200
    assert choice["message"]["content"].isprintable()


def test_a_stream_ends_in_usage_and_done(serving: Serving):
    body = _chat("Say something.", stream=True, stream_options={"include_usage": True})
    with serving.client("chat") as client, client.stream("POST", "/v1/chat/completions", json=body) as response:
        *chunks, usage, done = events(response.iter_lines())
    assert done is None
    assert usage is not None
    assert usage["usage"]["completion_tokens"] == 16
    assert len("".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk)) == 16


def test_a_repeated_prompt_counts_as_cached(serving: Serving):
    prompt = _chat("Repeat after me. " * 30)
    with serving.client("chat") as client:
        first, second = (client.post("/v1/chat/completions", json=prompt).json()["usage"] for _ in range(2))
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    cached = second["prompt_tokens_details"]["cached_tokens"]
    assert 0 < cached < second["prompt_tokens"]
    assert cached % 128 == 0


def test_the_load_is_read_from_a_live_engine(serving: Serving):
    with serving.client("chat") as client:
        load = get_engine("vllm").parse_load(client.get("/metrics").content)
    assert (load.kv_blocks, load.block_tokens, load.kv_capacity_tokens) == (64, 128, 8192)
    assert load.prompt_tokens > 0
    assert load.generation_tokens >= 200
    assert load.prefix_hits > 0


def test_an_adapter_answers_under_its_own_name(serving: Serving):
    with serving.client("chat") as client:
        names = {entry["id"] for entry in client.get("/v1/models").json()["data"]}
        asked = [_chat("Who are you?", temperature=0), _chat("Who are you?", temperature=0, model="adapter")]
        base, adapted = (client.post("/v1/chat/completions", json=body).json() for body in asked)
    assert names == {"chat", "adapter"}
    assert adapted["model"] == "adapter"
    assert adapted["choices"][0]["message"]["content"] != base["choices"][0]["message"]["content"]


def test_embeddings_have_unit_length_and_usage(serving: Serving):
    with serving.client("embed") as client:
        answer = client.post("/v1/embeddings", json={"model": "embed", "input": ["one", "another one"]}).json()
        load = get_engine("vllm").parse_load(client.get("/metrics").content)
    vectors = [entry["embedding"] for entry in answer["data"]]
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1.0, 1.0], abs=0.01)
    assert vectors[0] != vectors[1]
    assert answer["usage"]["prompt_tokens"] == len("one") + len("another one")
    assert load.kv_usage == 0.0


@pytest.mark.parametrize(
    ("request_line", "content", "status", "words"),
    [
        ("POST /v1/chat/completions", b"{", 400, "JSON"),
        ("POST /v1/chat/completions", b'{"model": "chat"}', 400, "messages"),
        ("POST /v1/completions", b'{"model": "chat", "prompt": "\xff"}', 400, "parsing the body"),
        ("POST /v1/chat/completions", b'{"model": "chat", "messages": "x"}', 400, "messages"),
        ("POST /v1/chat/completions", b'{"model": "chat", "messages": 3}', 400, "wrong type"),
        ("POST /v1/completions", b'{"model": "nobody", "prompt": "x"}', 404, "nobody"),
        ("POST /v1/completions", b'{"model": "chat", "prompt": "x", "max_tokens": 99999}', 400, "4096"),
        ("POST /v1/completions", b'{"model": "chat", "prompt": "x", "temperature": -1}', 400, "temperature"),
        ("GET /v1/chat/completions", b"", 405, "Method Not Allowed"),
        ("GET /v1/nowhere", b"", 404, "Not Found"),
    ],
)
def test_a_bad_request_gets_a_shaped_error(
    serving: Serving, request_line: str, content: bytes, status: int, words: str
):
    method, path = request_line.split()
    with serving.client("chat") as client:
        answer = client.request(method, path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == KEYS
    assert words in error["message"]


def test_refused_flags_are_told_in_the_deployment_message(serving: Serving):
    refused = {
        "name": "refused",
        "import_path": "penstock_engine.deployment:build",
        "route_prefix": "/refused",
        "args": {"argv": ["--model", "/nowhere", "--swap-space-in-the-attic", "3"]},
    }
    serving.deploy(refused)
    wait_until(lambda: "attic" in serving.message("refused"), 180.0, lambda: serving.message("refused"))
    assert "unrecognized arguments: --swap-space-in-the-attic" in serving.message("refused")
    serving.deploy()


def test_a_killed_engine_ends_its_replica_and_is_replaced(serving: Serving):
    ((replica_id, replica),) = serving.replicas("chat").items()
    processes = family(replica["pid"])
    segments = shared_memory(processes)
    assert segments
    body = _chat("Go on.", max_tokens=3000, stream=True)
    with serving.client("chat") as client, client.stream("POST", "/v1/chat/completions", json=body) as response:
        stream = events(response.iter_lines())
        next(stream)
        os.kill(core_of(replica["pid"]), signal.SIGKILL)
        *_, last = stream
    assert last is not None, "a broken stream must not end in [DONE]"
    assert set(last["error"]) == KEYS
    wait_until(lambda: not alive(processes), 15.0, lambda: f"still alive: {alive(processes)}")
    assert not [segment for segment in segments if segment.exists()]
    wait_until(lambda: bool(serving.replicas("chat").keys() - {replica_id}), 60.0)


def test_a_hung_engine_ends_its_replica(serving: Serving):
    ((replica_id, replica),) = serving.replicas("embed").items()
    processes = family(replica["pid"])
    os.kill(core_of(replica["pid"]), signal.SIGSTOP)
    wait_until(lambda: not alive(processes), 30.0, lambda: f"still alive: {alive(processes)}")
    wait_until(lambda: bool(serving.replicas("embed").keys() - {replica_id}), 60.0)


def test_a_stream_outlives_the_scaling_down_of_its_replica(serving: Serving):
    (replica,) = serving.wait_for("chat", running=1).values()
    processes = family(replica["pid"])
    segments = shared_memory(processes)
    body = _chat("Go on.", max_tokens=3000, stream=True, stream_options={"include_usage": True})
    with serving.client("chat") as client, client.stream("POST", "/v1/chat/completions", json=body) as response:
        stream = events(response.iter_lines())
        next(stream)
        serving.scale("chat", 0)
        wait_until(lambda: not serving.head.targets("chat"), 10.0)
        *_, usage, done = stream
    assert done is None
    assert usage is not None
    assert usage["usage"]["completion_tokens"] == 3000
    wait_until(lambda: not alive(processes), 60.0, lambda: f"still alive: {alive(processes)}")
    assert not [segment for segment in segments if segment.exists()]


def test_a_killed_replica_takes_its_engine_along(serving: Serving):
    (replica,) = serving.wait_for("embed", running=1).values()
    processes = family(replica["pid"])
    segments = shared_memory(processes)
    assert len(processes) >= 3
    os.kill(replica["pid"], signal.SIGKILL)
    wait_until(lambda: not alive(processes), 20.0, lambda: f"still alive: {alive(processes)}")
    for segment in segments:
        segment.unlink(missing_ok=True)  # the one end after which nobody is left to do it
