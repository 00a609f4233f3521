"""The admin port: probes, load, metrics and live state of a gateway that has served something."""

import asyncio
import json

import msgspec
import pytest

from penstock.routing.load import GatewayLoad
from penstock.routing.snapshot import ReplicaState
from penstock_gateway.load.poller import LoadPoller
from tests.integration.gateway.conftest import PEPPER, Platform, PlatformFactory, body, until
from tests.support.http import Answer, Client, get, post
from tests.support.upstream import Out, Seen, default_handler

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
METRICS = b"""
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{model_name="m"} 0.5
vllm:num_requests_running{model_name="m"} 3
vllm:num_requests_waiting{model_name="m"} 2
vllm:num_preemptions_total{model_name="m"} 0
vllm:prompt_tokens_total{model_name="m"} 10
vllm:generation_tokens_total{model_name="m"} 10
vllm:prefix_cache_queries_total{model_name="m"} 0
vllm:prefix_cache_hits_total{model_name="m"} 0
"""


async def ask_admin(platform: Platform, path: str, key: str | None = None) -> Answer:
    client = await Client.connect(platform.gateway.admin_address[1])
    try:
        return await client.ask(get(path, key=key))
    finally:
        client.abort()


async def test_load_counts_what_went_through(start: PlatformFactory):
    platform = await start("m.1")
    client = await platform.connect()
    await client.ask(post(CHAT, body(max_tokens=3)))
    await client.ask(post(CHAT, body(max_tokens=4, stream=True)))
    load = msgspec.json.decode((await ask_admin(platform, "/load")).body, type=GatewayLoad)
    assert load.snapshot_version == platform.version
    [whole] = [entry for entry in load.models if (entry.model, entry.variant) == ("m", "")]
    [variant] = [entry for entry in load.models if entry.variant == "m--cpu"]
    assert whole.arrived == 2
    assert (variant.admitted, variant.completed, variant.failed, variant.in_flight) == (2, 2, 0, 0)
    assert (variant.prompt_tokens, variant.cached_tokens, variant.completion_tokens) == (14, 6, 7)
    assert variant.body_bytes == len(body(max_tokens=3)) + len(body(max_tokens=4, stream=True))
    assert (sum(variant.ttft_buckets), sum(variant.tpot_buckets)) == (1, 1)


async def test_metrics_and_live_state(start: PlatformFactory):
    platform = await start("m.1")
    client = await platform.connect()
    await client.ask(post(CHAT, body(max_tokens=3)))
    text = (await ask_admin(platform, "/metrics")).body.decode()
    assert 'penstock_gateway_requests_total{model="m",outcome="completed",variant="m--cpu"} 1.0' in text
    assert 'penstock_gateway_tokens_total{kind="completion",model="m",variant="m--cpu"} 3.0' in text
    assert "penstock_gateway_usage_records_total 1.0" in text
    state = (await ask_admin(platform, "/snapshot")).json
    assert state["version"] == platform.version
    assert state["models"][0]["next_pick"] == "m.1"
    hashed = platform.tenants[0].key_hashes[0]
    assert hashed not in json.dumps(state)
    assert PEPPER.decode() not in json.dumps(state)
    assert (await ask_admin(platform, "/docs")).status == 200
    assert "/load" in (await ask_admin(platform, "/openapi.json")).json["paths"]


async def test_readiness_follows_snapshot_and_drain(start: PlatformFactory):
    platform = await start()
    assert (await ask_admin(platform, "/readyz")).status == 200
    platform.gateway.relay.draining = True
    assert (await ask_admin(platform, "/readyz")).json == {"status": "draining"}
    assert (await ask_admin(platform, "/healthz")).status == 200


async def test_the_admin_token_guards_all_but_the_probes(start: PlatformFactory):
    platform = await start(admin_token="secret")
    for path in ("/load", "/metrics", "/snapshot"):
        refused = await ask_admin(platform, path, key="wrong")
        assert refused.status == 401
        assert set(refused.json["error"]) == {"message", "type", "param", "code"}
        assert (await ask_admin(platform, path, key="secret")).status == 200
    assert (await ask_admin(platform, "/readyz")).status == 200


async def test_a_task_that_ends_by_a_defect_asks_for_a_new_process(start: PlatformFactory, monkeypatch):
    async def broken(poller: LoadPoller) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(LoadPoller, "run", broken)
    platform = await start("m.1")
    answer = await ask_admin(platform, "/healthz")
    assert (answer.status, answer.json) == (503, {"status": "the task 'load' has ended"})
    assert (await ask_admin(platform, "/readyz")).status == 200


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [(get("/nothing"), 404, "unknown_url"), (post("/load", b""), 405, "method_not_supported")],
)
async def test_unknown_paths_and_methods_have_the_shape_of_the_data_port(
    start: PlatformFactory, request_: bytes, status: int, code: str
):
    platform = await start()
    client = await Client.connect(platform.gateway.admin_address[1])
    answer = await client.ask(request_)
    client.abort()
    assert answer.status == status
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert answer.json["error"]["code"] == code


async def test_engines_metrics_steer_the_pick(start: PlatformFactory):
    platform = await start("m.1", "m.2")

    async def busy(seen: Seen, out: Out) -> None:
        if seen.path == "/m--cpu/metrics":
            await out.answer(200, METRICS, "text/plain")
        else:
            await default_handler(seen, out)

    platform.upstreams["m.1"].handler = busy
    await platform.gateway.poller.poll()
    replica = platform.gateway.fleet.replicas["m.1"]
    assert (replica.reported, replica.kv_usage, replica.running, replica.waiting) == (True, 0.5, 3, 2)
    client = await platform.connect()
    for _ in range(4):
        await client.ask(post(CHAT, body()))
    assert len(platform.upstreams["m.2"].requests) == 4


async def test_a_spool_that_fails_loses_records_but_no_request(
    start: PlatformFactory, caplog: pytest.LogCaptureFixture
):
    platform = await start("m.1")

    class Full:
        def append(self, _record: object) -> None:
            raise OSError(28, "No space left on device")

    platform.gateway.relay.meter._sink = Full()
    client = await platform.connect()
    for _ in range(3):
        assert (await client.ask(post(CHAT, body()))).status == 200
    assert platform.gateway.relay.meter.lost == 3
    assert caplog.text.count("usage records are being lost") == 1


async def test_snapshots_are_swapped_under_load_without_an_error(start: PlatformFactory):
    platform = await start("m.1", "m.2")
    done = asyncio.Event()

    async def ask_on() -> list[int]:
        client = await platform.connect()
        statuses = []
        while not done.is_set():
            statuses.append((await client.ask(post(CHAT, body(stream=len(statuses) % 2 == 0)))).status)
        return statuses

    asking = [asyncio.ensure_future(ask_on()) for _ in range(8)]
    for turn in range(40):
        drained = "m.1" if turn % 2 else "m.2"
        platform.states = {drained: ReplicaState.DRAINING}
        platform.publish()
        seen = platform.gateway.relay.turn
        await until(lambda goal=seen + 10: platform.gateway.relay.turn >= goal)
    done.set()
    statuses = [status for statuses in await asyncio.gather(*asking) for status in statuses]
    assert set(statuses) == {200}
    assert len(platform.records()) == len(statuses)
