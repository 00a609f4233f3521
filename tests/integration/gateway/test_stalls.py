"""A gateway whose loop stands still at any moment of a request: all is answered, and nobody is blamed."""

import asyncio
import time

import pytest

from penstock.routing.snapshot import ReplicaState, RoutingSnapshot, VariantShare
from penstock_gateway.relay.pool import Pool
from tests.integration.gateway.conftest import PlatformFactory, body, until
from tests.integration.gateway.test_faults import only_inference
from tests.support.http import Client, post

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
STALL_S = 0.08
SHORT_S = 0.03
"""Every deadline that could fire while the loop stands still."""
STEPS = 24


class Staller:
    """Stands in the loop's way for `STALL_S`, so many steps of the loop after it was set."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def set(self, steps: int) -> None:
        if steps:
            self._loop.call_soon(self.set, steps - 1)
        else:
            time.sleep(STALL_S)  # the stall is the point


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stall_between_a_polls_answer_and_its_time_out_takes_no_request_along(
    start: PlatformFactory, monkeypatch: pytest.MonkeyPatch, stream: bool
):
    """The answer is read, the next request takes the connection, all stands still, and only then time is up."""
    platform = await start("m.1", deadlines={"sweep_s": 0.02}, load_poll_s=SHORT_S)
    client = await platform.connect()
    await client.ask(post(CHAT, body()))
    [connection] = platform.gateway.connections
    stalls = 0
    give_back = Pool.give_back

    def give_back_and_stall(pool, upstream):
        nonlocal stalls
        give_back(pool, upstream)
        if stalls < 10 and connection.idle:
            stalls += 1
            connection.data_received(post(CHAT, body(stream=stream)))
            time.sleep(STALL_S)  # the stall is the point

    monkeypatch.setattr(Pool, "give_back", give_back_and_stall)
    for count in range(10):
        assert (await client.answer()).status == 200, count
    assert len(platform.records()) == 11
    assert not platform.gateway.relay.tally.retries
    assert len(platform.upstreams["m.1"].requests) == 11


async def test_a_stall_while_connecting_blames_no_replica(start: PlatformFactory):
    platform = await start("m.1", deadlines={"sweep_s": 0.02, "connect_s": SHORT_S})
    staller = Staller()
    for steps in range(STEPS):
        client = await platform.connect()
        await client.send(post(CHAT, body()))
        staller.set(steps)
        assert (await client.answer()).status == 200, steps
        client.abort()
        platform.gateway.fleet.sweep(time.monotonic() + 3600.0, 0.0)  # the next one has to connect as well
    assert not platform.gateway.relay.tally.retries
    assert platform.gateway.fleet.replicas["m.1"].ejections == 0


async def test_a_replica_that_began_to_drain_while_it_was_connected_to_gets_nothing(
    start: PlatformFactory, monkeypatch: pytest.MonkeyPatch
):
    platform = await start("m.1")
    gate, asked = asyncio.Event(), asyncio.Event()
    connect = Pool._connect

    async def gated(pool, on_connected, on_failed):
        asked.set()
        await gate.wait()
        await connect(pool, on_connected, on_failed)

    monkeypatch.setattr(Pool, "_connect", gated)
    client = await platform.connect()
    await client.send(post(CHAT, body()))
    await asked.wait()
    platform.states["m.1"] = ReplicaState.DRAINING
    await platform.add("m.2")
    assert platform.gateway.load().routable == ("m.2",)
    gate.set()
    assert (await client.answer()).status == 200
    assert (len(platform.upstreams["m.1"].requests), len(platform.upstreams["m.2"].requests)) == (0, 1)
    assert not platform.gateway.relay.tally.retries
    assert platform.gateway.fleet.replicas["m.1"].in_flight == 0


async def test_a_replica_that_went_while_it_was_connected_to_gets_nothing_and_the_client_an_answer(
    start: PlatformFactory, monkeypatch: pytest.MonkeyPatch
):
    platform = await start("m.1")
    gate, asked = asyncio.Event(), asyncio.Event()
    connect = Pool._connect

    async def gated(pool, on_connected, on_failed):
        asked.set()
        await gate.wait()
        await connect(pool, on_connected, on_failed)

    monkeypatch.setattr(Pool, "_connect", gated)
    client = await platform.connect()
    await client.send(post(CHAT, body()))
    await asked.wait()
    platform.gateway.apply(RoutingSnapshot(version=9))
    gate.set()
    answer = await client.answer()
    assert (answer.status, answer.error["code"]) == (503, "no_replica")
    assert not platform.upstreams["m.1"].requests


async def test_shares_move_traffic_between_variants_and_sessions_stay(start: PlatformFactory):
    platform = await start()
    platform.shares = (
        VariantShare(model="m", variant="m--a", weight=1),
        VariantShare(model="m", variant="m--b", weight=1),
    )
    first, second = await platform.add("m.1", variant="m--a"), await platform.add("m.2", variant="m--b")
    client: Client = await platform.connect()
    for number in range(40):
        assert (await client.ask(post(CHAT, body()))).status == 200, number
    assert min(len(first.requests), len(second.requests)) >= 5
    for engine in (first, second):
        engine.requests.clear()
    for _ in range(10):
        await client.ask(post(CHAT, body(prompt_cache_key="a session")))
    assert {len(first.requests), len(second.requests)} == {0, 10}
    stayed = first if first.requests else second
    await stayed.stop()
    assert (await client.ask(post(CHAT, body(prompt_cache_key="a session")))).status == 200
    await until(lambda: platform.gateway.fleet.replicas["m.1" if stayed is first else "m.2"].ejections == 1)


async def test_a_rude_replica_answers_nobody_elses_question(start: PlatformFactory):
    """It says more than it was asked: the rest must not become the next client's answer."""
    platform = await start("m.1")
    client, other = await platform.connect(), await platform.connect()
    evil = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n{"evil"}'

    async def rude(seen, out):
        await out.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}" + evil)

    platform.upstreams["m.1"].handler = only_inference(rude)
    for asking in (client, other, client):
        assert (await asking.ask(post(CHAT, body()))).body == b"{}"
    assert platform.upstreams["m.1"].connections >= 3
