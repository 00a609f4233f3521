"""Readings of gateways and engines, over HTTP on loopback: slow and broken ones hold nobody up."""

import asyncio

import msgspec
import pytest
from aiohttp import web

from penstock.routing.load import GatewayLoad, ModelLoad
from penstock.scaling.snapshot import ReplicaPhase
from penstock_operator.pool.loads import Loads
from tests.unit.operator.pool.makers import life

pytestmark = pytest.mark.anyio

PAGE = b"""vllm:num_requests_running{engine="0"} 3
vllm:num_requests_waiting{engine="0"} 1
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:num_preemptions_total{engine="0"} 0
vllm:prompt_tokens_total{engine="0"} 10
vllm:generation_tokens_total{engine="0"} 20
vllm:prefix_cache_queries_total{engine="0"} 0
vllm:prefix_cache_hits_total{engine="0"} 0
"""


async def until(condition):
    """Let other tasks run until a condition holds."""
    while not condition():  # noqa: ASYNC110 - what is waited for comes over a socket
        await asyncio.sleep(0)


class Peers:
    """Gateways and engines on one port."""

    def __init__(self):
        self.routable = {"gateway-1": ("a", "b"), "gateway-2": ("b",)}
        self.silent = asyncio.Event()
        self.tokens = []
        self.port = 0
        self._turn = 0

    async def load(self, request):
        self.tokens.append(request.headers.get("authorization"))
        process = sorted(self.routable)[self._turn % len(self.routable)]
        self._turn += 1
        models = (ModelLoad(model="llama", arrived=4), ModelLoad(model="other", arrived=9))
        load = GatewayLoad(
            process=process, at_s=1.0, snapshot_version=1, models=models, routable=self.routable[process]
        )
        return web.Response(body=msgspec.json.encode(load))

    async def metrics(self, request):
        if request.match_info["variant"] == "hung":
            await self.silent.wait()
        return web.Response(body=PAGE)

    def slices(self, processes=1):
        """Return the gateways' slice; each address is another way to the same port."""
        endpoints = [{"addresses": [f"127.0.0.{number + 1}"]} for number in range(processes)]
        return [{"ports": [{"port": self.port}], "endpoints": endpoints}]


@pytest.fixture
async def peers():
    found = Peers()
    app = web.Application()
    app.router.add_get("/load", found.load)
    app.router.add_get("/{variant}/metrics", found.metrics)
    runner = web.AppRunner(app, shutdown_timeout=0.0, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 0).start()
    found.port = runner.addresses[0][1]
    yield found
    found.silent.set()
    await runner.cleanup()


@pytest.fixture
async def loads(peers):
    ticks = iter(range(1, 1000))
    made = Loads(lambda: peers.slices(2), period_s=1.0, clock=lambda: float(next(ticks)))
    yield made
    await made.close()


async def test_every_process_and_engine_is_read(peers, loads):
    loads.follow("team", [life("r0", "good", address="127.0.0.1", port=peers.port)])
    await loads.round()
    assert set(loads.gateways) == {"gateway-1", "gateway-2"}
    assert loads.readings(["r0", "r1"], since_s=0.0)["r0"].load.running == 3


async def test_a_pool_is_told_of_its_own_models_only_and_of_each_report_once(loads):
    await loads.round()
    reports = loads.reports(["llama"], since_s=0.0)
    assert [[item.model for item in load.models] for load, _ in reports] == [["llama"], ["llama"]]
    assert loads.reports(["llama"], since_s=max(at_s for _, at_s in reports)) == []


async def test_what_is_not_there_any_more_is_not_read(peers, loads):
    loads.follow("team", [life("r0", "good", address="127.0.0.1", port=peers.port)])
    await loads.round()
    loads.follow("team", [life("r1", phase=ReplicaPhase.STARTING)])
    assert loads.engines == {}
    await loads.round()
    assert loads.engines == {}


async def test_a_hung_engine_holds_no_other_up(peers, loads):
    hung = [life(f"h{number}", "hung", address="127.0.0.1", port=peers.port) for number in range(3)]
    loads.follow("team", [*hung, life("r0", "good", address="127.0.0.1", port=peers.port)])
    reading = asyncio.create_task(loads.round())
    await until(lambda: "r0" in loads.engines)
    assert not reading.done()
    peers.silent.set()
    await reading


async def test_a_scale_down_waits_until_the_last_gateway_has_left_the_victim(peers, loads):
    waiting = asyncio.create_task(loads.wait_unroutable(frozenset({"b"}), within_s=30.0))
    await until(lambda: len(peers.tokens) >= 4)
    peers.routable["gateway-1"] = ("a",)
    await until(lambda: len(peers.tokens) >= 8)
    assert not waiting.done()  # gateway-2 may still pick it
    peers.routable["gateway-2"] = ()
    assert await waiting is True


async def test_a_gateway_that_does_not_hear_holds_it_up_no_longer_than_is_bearable(loads):
    assert await loads.wait_unroutable(frozenset({"a"}), within_s=0.0) is False


async def test_a_gateway_that_does_not_answer_may_still_route(peers, loads):
    peers.routable = {"gateway-1": ()}
    dead = Loads(
        lambda: [{"ports": [{"port": 1}], "endpoints": [{"addresses": ["127.0.0.1"]}]}], period_s=1.0, clock=lambda: 1.0
    )
    assert await dead.wait_unroutable(frozenset({"a"}), within_s=0.0) is False
    await dead.close()


async def test_no_gateway_is_nobody_to_wait_for():
    none = Loads(list, period_s=1.0, clock=lambda: 1.0)
    assert await none.wait_unroutable(frozenset({"a"}), within_s=0.0) is True
    await none.close()


async def test_the_token_is_read_anew_each_round(peers, tmp_path):
    file = tmp_path / "token"
    file.write_text("one\n")
    loads = Loads(peers.slices, period_s=1.0, clock=lambda: 1.0, token_file=file)
    await loads.round()
    file.write_text("two\n")
    await loads.round()
    assert peers.tokens == ["Bearer one", "Bearer two"]
    await loads.close()
