"""Engines that break before, during and after the first byte, and clients that leave or lag."""

import asyncio
import json

import pytest

from penstock.cost.records import InFlightMark, Outcome
from penstock.cost.spool import SpoolReader
from penstock.routing.snapshot import Backend, CompiledRoute, ReplicaState
from tests.integration.gateway.conftest import PlatformFactory, body, until
from tests.support.http import Client, get, post
from tests.support.upstream import Out, Seen, Upstream, chat_chunk, default_handler

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
ENGINE_DEAD = {
    "error": {
        "message": "EngineCore encountered an issue. See stack trace (above) for the root cause.",
        "type": "InternalServerError",
        "param": None,
        "code": 500,
    }
}


def only_inference(handle):
    """Let health and metrics answer as usual."""

    async def handler(seen: Seen, out: Out) -> None:
        await (handle if seen.method == "POST" else default_handler)(seen, out)

    return handler


async def cut_at_once(_seen: Seen, out: Out) -> None:
    out.cut()


def answering(status: int, payload: object):
    async def handler(_seen: Seen, out: Out) -> None:
        await out.answer(status, payload)

    return only_inference(handler)


async def ask_until_chosen(client: Client, upstream: Upstream) -> list[int]:
    """Send requests until one has reached this engine; equal replicas take turns, so that is soon."""
    statuses = []
    while not upstream.requests:
        statuses.append((await client.ask(post(CHAT, body()))).status)
    return statuses


async def test_a_refused_connection_is_retried_elsewhere_and_ejects(start: PlatformFactory):
    platform = await start("m.1", "m.2")
    client = await platform.connect()
    await platform.upstreams["m.1"].stop()
    assert [(await client.ask(post(CHAT, body()))).status for _ in range(6)] == [200] * 6
    assert platform.gateway.fleet.replicas["m.1"].ejected
    assert {record.replica for record in platform.records()} == {"m.2"}
    assert platform.gateway.relay.tally.retries["connect"] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_that_breaks_before_the_first_byte_is_retried_once(start: PlatformFactory, stream: bool):
    platform = await start("m.1", "m.2")
    platform.upstreams["m.1"].handler = cut_at_once
    client = await platform.connect()
    assert (await client.ask(post(CHAT, body(stream=stream)))).status == 200
    assert (await client.ask(post(CHAT, body(stream=stream)))).status == 200
    assert len(platform.records()) == 2
    platform.upstreams["m.2"].handler = cut_at_once
    answer = await client.ask(post(CHAT, body(stream=stream)))
    assert answer.status == 502
    assert answer.error["code"] == "engine_failed"
    assert platform.records()[-1].outcome is Outcome.FAILED


async def test_a_request_that_breaks_every_replica_is_not_given_a_third(start: PlatformFactory):
    platform = await start("m.1", "m.2", "m.3")
    for upstream in platform.upstreams.values():
        upstream.handler = cut_at_once
    client = await platform.connect()
    assert (await client.ask(post(CHAT, body()))).status == 502
    assert sum(len(upstream.requests) for upstream in platform.upstreams.values()) == 2


async def test_a_kept_connection_that_the_engine_closed_is_replaced_without_blame(start: PlatformFactory):
    platform = await start("m.1")
    client = await platform.connect()
    await client.ask(post(CHAT, body()))
    upstream = platform.upstreams["m.1"]
    dropped = []

    async def drop_first(seen: Seen, out: Out) -> None:
        if dropped:
            await default_handler(seen, out)
        else:
            dropped.append(seen)
            out.cut()

    upstream.handler = only_inference(drop_first)
    assert (await client.ask(post(CHAT, body()))).status == 200
    assert platform.gateway.fleet.replicas["m.1"].ejections == 0
    assert not platform.gateway.relay.tally.retries


@pytest.mark.parametrize("status", [502, 503])
async def test_an_unavailable_replica_is_left_for_another(start: PlatformFactory, status: int):
    platform = await start("m.1", "m.2")
    platform.upstreams["m.1"].handler = answering(status, {"detail": "later"})
    client = await platform.connect()
    assert set(await ask_until_chosen(client, platform.upstreams["m.1"])) == {200}
    assert not platform.gateway.fleet.replicas["m.1"].ejected


async def test_a_dead_engine_behind_a_living_server_is_ejected(start: PlatformFactory):
    platform = await start("m.1", "m.2")
    platform.upstreams["m.1"].handler = answering(500, ENGINE_DEAD)
    client = await platform.connect()
    assert set(await ask_until_chosen(client, platform.upstreams["m.1"])) == {200}
    assert platform.gateway.fleet.replicas["m.1"].ejections == 1


async def test_any_other_500_is_tried_once_elsewhere_and_told_in_our_words(start: PlatformFactory):
    platform = await start("m.1", "m.2", "m.3")
    for upstream in platform.upstreams.values():
        upstream.handler = answering(500, b"Traceback (most recent call last): secret")
    client = await platform.connect()
    answer = await client.ask(post(CHAT, body()))
    assert answer.status == 502
    assert "secret" not in answer.error["message"]
    assert sum(len(upstream.requests) for upstream in platform.upstreams.values()) == 2


async def test_an_engines_refusal_keeps_its_message_and_gets_openais_shape(start: PlatformFactory):
    platform = await start("m.1")
    refusal = {
        "error": {
            "message": "maximum context length is 8",
            "type": "BadRequestError",
            "param": "max_tokens",
            "code": 400,
        }
    }
    platform.upstreams["m.1"].handler = answering(400, refusal)
    client = await platform.connect()
    answer = await client.ask(post(CHAT, body()))
    assert answer.status == 400
    assert answer.error == {
        "message": "maximum context length is 8",
        "type": "invalid_request_error",
        "param": "max_tokens",
        "code": "context_length_exceeded",
    }
    [record] = platform.records()
    assert (record.outcome, record.completion_tokens, record.partial) == (Outcome.COMPLETE, 0, False)


async def test_a_stream_that_is_cut_ends_with_a_clean_error_and_no_done(start: PlatformFactory):
    platform = await start("m.1", "m.2")

    async def cut_mid_stream(_seen: Seen, out: Out) -> None:
        await out.open_stream()
        await out.event(chat_chunk({"role": "assistant", "content": ""}))
        await out.event(chat_chunk({"content": "one"}))
        await out.chunk(b'data: {"half')
        out.cut()

    for upstream in platform.upstreams.values():
        upstream.handler = only_inference(cut_mid_stream)
    client = await platform.connect()
    answer = await client.ask(post(CHAT, body(stream=True)))
    assert answer.status == 200
    assert json.loads(answer.events[1])["choices"][0]["delta"] == {"content": "one"}
    error = json.loads(answer.events[2])["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert len(answer.events) == 3
    [record] = platform.records()
    assert (record.outcome, record.partial, record.completion_tokens) == (Outcome.FAILED, True, 1)
    assert (await client.ask(get("/healthz"))).status == 200


async def test_an_error_event_is_a_failure_although_the_engine_says_done(start: PlatformFactory):
    platform = await start("m.1")

    async def die_mid_stream(_seen: Seen, out: Out) -> None:
        await out.open_stream()
        await out.event(chat_chunk({"content": "one"}))
        await out.event(ENGINE_DEAD)
        await out.done()

    platform.upstreams["m.1"].handler = only_inference(die_mid_stream)
    client = await platform.connect()
    answer = await client.ask(post(CHAT, body(stream=True)))
    assert "[DONE]" not in answer.events
    assert "EngineCore" not in answer.body.decode()
    assert json.loads(answer.events[-1])["error"]["code"] == "engine_failed"
    assert platform.records()[0].outcome is Outcome.FAILED
    assert platform.gateway.fleet.replicas["m.1"].ejections == 1


async def test_a_stream_without_its_end_mark_was_cut(start: PlatformFactory):
    platform = await start("m.1")

    async def stop_short(_seen: Seen, out: Out) -> None:
        await out.open_stream()
        await out.event(chat_chunk({"content": "one"}))
        await out.raw(b"0\r\n\r\n")

    platform.upstreams["m.1"].handler = only_inference(stop_short)
    client = await platform.connect()
    answer = await client.ask(post(CHAT, body(stream=True)))
    assert "error" in json.loads(answer.events[-1])
    assert platform.records()[0].outcome is Outcome.FAILED


async def test_a_request_that_nobody_works_for_any_more_is_sent_elsewhere(start: PlatformFactory):
    platform = await start("m.1", "m.2")
    reached = asyncio.Event()

    async def swallow_the_first(seen: Seen, out: Out) -> None:
        if reached.is_set():
            await default_handler(seen, out)
        else:
            reached.set()
            await seen.gone.wait()

    for upstream in platform.upstreams.values():
        upstream.handler = only_inference(swallow_the_first)
    client = await platform.connect()
    asking = asyncio.ensure_future(client.ask(post(CHAT, body(stream=True))))
    await reached.wait()
    [exchange] = [one._exchange for one in platform.gateway.connections]
    exchange.connection._receiver = None
    answer = await asking
    assert (answer.status, answer.events[-1]) == (200, "[DONE]")


async def test_the_spool_says_which_requests_are_under_way(start: PlatformFactory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("penstock_gateway.gateway.MARK_PERIOD_S", 0.0)
    platform = await start("m.1")
    may_end = asyncio.Event()

    async def wait_in_the_middle(_seen: Seen, out: Out) -> None:
        await out.open_stream()
        await out.event(chat_chunk({"content": "one"}))
        await may_end.wait()
        await out.done()

    def marks() -> list[InFlightMark]:
        batches = SpoolReader(platform.spool).read({})
        return [record for batch in batches for record in batch.records if isinstance(record, InFlightMark)]

    assert marks()[0].oldest_start_s == {}  # before the first request, so that the ledger waits from then on
    platform.upstreams["m.1"].handler = only_inference(wait_in_the_middle)
    client = await platform.connect()
    asking = asyncio.ensure_future(client.ask(post(CHAT, body(stream=True))))
    await until(lambda: marks()[-1].oldest_start_s)
    under_way = marks()[-1]
    may_end.set()
    await asking
    [record] = platform.records()
    assert under_way.oldest_start_s["m.1"] <= record.start_s < under_way.at_s
    await until(lambda: not marks()[-1].oldest_start_s)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_the_engine_at_once(start: PlatformFactory, stream: bool):
    platform = await start("m.1")
    waiting = asyncio.Event()

    async def never_end(seen: Seen, out: Out) -> None:
        if seen.json.get("stream"):
            await out.open_stream()
            await out.event(chat_chunk({"content": "one"}))
        await waiting.wait()

    upstream = platform.upstreams["m.1"]
    upstream.handler = only_inference(never_end)
    client = await platform.connect()
    await client.send(post(CHAT, body(stream=stream)))
    [seen] = await upstream.wait_for_requests(1)
    if stream:
        await client.head()
        await client.chunk()
    client.abort()
    await seen.gone.wait()
    [record] = platform.records()
    assert (record.outcome, record.partial) == (Outcome.CANCELLED, True)
    assert record.completion_tokens == (1 if stream else 0)
    assert platform.gateway.fleet.replicas["m.1"].in_flight == 0


async def test_an_ejected_replica_returns_after_a_probe(start: PlatformFactory):
    platform = await start("m.1")
    upstream = platform.upstreams["m.1"]
    port = upstream.port
    await upstream.stop()
    client = await platform.connect()
    assert (await client.ask(post(CHAT, body()))).status == 502
    replica = platform.gateway.fleet.replicas["m.1"]
    assert replica.ejected
    await upstream.start(port)
    await until(lambda: not replica.ejected)
    assert (await client.ask(post(CHAT, body()))).status == 200
    assert replica.backoff_s == 0.0


async def test_when_all_are_ejected_one_is_tried_all_the_same(start: PlatformFactory):
    platform = await start("m.1", retries={"eject_min_s": 30.0, "eject_max_s": 30.0})
    replica = platform.gateway.fleet.replicas["m.1"]
    platform.gateway.ejections.eject(replica)
    client = await platform.connect()
    assert (await client.ask(post(CHAT, body()))).status == 200


async def test_fallbacks_take_over_when_no_backend_can(start: PlatformFactory):
    platform = await start("m.1", "org/other.1")
    platform.routes = (CompiledRoute(name="r", backends=(Backend(model="m"),), fallbacks=("org/other",)),)
    platform.states["m.1"] = ReplicaState.DRAINING
    platform.publish()
    client = await platform.connect()
    assert (await client.ask(post(CHAT, body(model="r")))).status == 200
    assert platform.upstreams["org/other.1"].requests[0].json["model"] == "org/other"


async def test_a_known_model_without_replicas_asks_for_patience(start: PlatformFactory):
    platform = await start()
    client = await platform.connect()
    answer = await client.ask(post(CHAT, body()))
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "no_replica", "2")
    [load] = [load for load in platform.gateway.load().models if (load.model, load.variant) == ("m", "")]
    assert (load.arrived, load.shed) == (1, 1)


async def test_a_silent_engine_runs_into_the_deadline(start: PlatformFactory):
    platform = await start("m.1", deadlines={"sweep_s": 0.01, "first_byte_s": 0.05})
    never = asyncio.Event()

    async def silent(_seen: Seen, _out: Out) -> None:
        await never.wait()

    platform.upstreams["m.1"].handler = only_inference(silent)
    client = await platform.connect()
    answer = await client.ask(post(CHAT, body()))
    assert (answer.status, answer.error["code"]) == (504, "engine_timeout")
    assert platform.gateway.fleet.replicas["m.1"].ejections == 1


async def test_a_slow_reader_holds_the_engine_back_and_loses_nothing(start: PlatformFactory):
    platform = await start("m.1")
    sent = 0
    count, size = 400, 64 * 1024

    async def flood(_seen: Seen, out: Out) -> None:
        nonlocal sent
        await out.open_stream()
        for _ in range(count):
            await out.event(chat_chunk({"content": "x" * size}))
            sent += 1
        await out.done()

    platform.upstreams["m.1"].handler = only_inference(flood)
    client = await platform.connect()
    await client.send(post(CHAT, body(stream=True)))
    await client.head()
    [connection] = platform.gateway.connections
    await until(lambda: connection._stalled_since_s is not None)
    seen_at_stall = sent
    answered = 0
    while chunk := await client.chunk():
        answered += chunk.count(b"x" * size)
    assert seen_at_stall < count
    assert answered == count
    assert platform.records()[0].outcome is Outcome.COMPLETE


async def test_a_draining_replica_gets_nothing_new_and_its_streams_go_on(start: PlatformFactory):
    platform = await start("m.1")
    go_on = asyncio.Event()

    async def in_two_parts(_seen: Seen, out: Out) -> None:
        await out.open_stream()
        await out.event(chat_chunk({"content": "one"}))
        await go_on.wait()
        await out.event(chat_chunk({"content": "two"}))
        await out.done()

    platform.upstreams["m.1"].handler = only_inference(in_two_parts)
    client = await platform.connect()
    await client.send(post(CHAT, body(stream=True)))
    await client.head()
    await client.chunk()
    new = await platform.add("m.2")
    platform.states["m.1"] = ReplicaState.DRAINING
    platform.publish()
    other = await platform.connect()
    for _ in range(4):
        await other.ask(post(CHAT, body()))
    assert len(new.requests) == 4
    gone = platform.upstreams.pop("m.1")  # no longer in the snapshot at all
    platform.publish()
    go_on.set()
    assert b"two" in await client.chunk()
    assert b"[DONE]" in await client.chunk()
    await gone.stop()
    assert {record.outcome for record in platform.records()} == {Outcome.COMPLETE}


async def test_drain_finishes_streams_and_closes_the_rest(start: PlatformFactory):
    platform = await start("m.1")
    go_on = asyncio.Event()

    async def in_two_parts(_seen: Seen, out: Out) -> None:
        await out.open_stream()
        await out.event(chat_chunk({"content": "one"}))
        await go_on.wait()
        await out.done()

    platform.upstreams["m.1"].handler = only_inference(in_two_parts)
    streaming, idle = await platform.connect(), await platform.connect()
    assert (await idle.ask(get("/healthz"))).status == 200
    await streaming.send(post(CHAT, body(stream=True)))
    await streaming.head()
    await streaming.chunk()
    draining = asyncio.ensure_future(platform.gateway.drain())
    assert await idle.at_end()
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(platform.gateway.data_address[1])
    assert not draining.done()
    go_on.set()
    assert b"[DONE]" in await streaming.chunk()
    assert await streaming.chunk() == b""
    assert await streaming.at_end()
    await draining
    assert platform.records()[0].outcome is Outcome.COMPLETE
