"""Requests that go well: what reaches the engine, what reaches the client, what is on record."""

import json

import pytest

from penstock.cost.records import Outcome
from penstock.routing.snapshot import Backend, CompiledRoute
from tests.integration.gateway.conftest import KEY, PlatformFactory, body
from tests.support.http import get, post
from tests.support.upstream import chat_answer

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"


async def test_a_unary_answer_is_passed_on_byte_for_byte_and_recorded(start: PlatformFactory):
    platform = await start("m.1")
    client = await platform.connect()
    answer = await client.ask(post(CHAT, body(max_tokens=4)))
    assert answer.status == 200
    assert answer.json == chat_answer("word word word word", 4)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    [record] = platform.records()
    assert (record.id, record.tenant, record.route) == (answer.headers["x-request-id"], "acme", "m")
    assert (record.model, record.variant, record.replica) == ("m", "m--cpu", "m.1")
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (7, 3, 4)
    assert (record.outcome, record.partial, record.first_token_s) == (Outcome.COMPLETE, False, None)
    assert record.start_s <= record.end_s


async def test_the_engine_gets_the_body_as_it_came_and_no_header_that_steers(start: PlatformFactory):
    platform = await start("m.1")
    client = await platform.connect()
    sent = body()
    dropped = ("X-Request-Timeout-Seconds: 1", "X-Tenant: evil", "X-Penstock-Why: 1", "X-Data-Parallel-Rank: 3")
    answer = await client.ask(post(CHAT, sent, "traceparent: 00-a-b-01", "X-Client-Request-Id: mine", *dropped))
    [seen] = platform.upstreams["m.1"].requests
    assert seen.path == "/m--cpu/v1/chat/completions"
    assert seen.body == sent
    assert seen.headers["traceparent"] == "00-a-b-01"
    assert seen.headers["x-request-id"] == answer.headers["x-request-id"]
    assert answer.headers["x-client-request-id"] == "mine"
    assert set(seen.headers) == {"host", "accept", "content-type", "content-length", "x-request-id", "traceparent"}


@pytest.mark.parametrize("asked", [True, False])
async def test_usage_is_forced_upstream_and_stripped_unless_asked_for(start: PlatformFactory, asked: bool):
    platform = await start("m.1")
    client = await platform.connect()
    options = {"stream_options": {"include_usage": True}} if asked else {}
    answer = await client.ask(post(CHAT, body(stream=True, max_tokens=3, **options)))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert platform.upstreams["m.1"].requests[0].json["stream_options"] == {"include_usage": True}
    *chunks, last = answer.events
    assert last == "[DONE]"
    usages = [chunk for chunk in map(json.loads, chunks) if chunk.get("usage")]
    assert len(usages) == (1 if asked else 0)
    text = "".join(
        chunk["choices"][0]["delta"].get("content", "") for chunk in map(json.loads, chunks) if chunk["choices"]
    )
    assert text == "word0 word1 word2 "
    [record] = platform.records()
    assert (record.prompt_tokens, record.completion_tokens, record.partial) == (7, 3, False)
    assert record.start_s <= record.first_token_s <= record.end_s


async def test_a_route_and_an_adapter_are_served_under_the_engines_name(start: PlatformFactory):
    platform = await start("m.1")
    platform.routes = (CompiledRoute(name="gpt-public", backends=(Backend(model="m"),)),)
    platform.publish()
    client = await platform.connect()
    for name in ("gpt-public", "m-lora"):
        assert (await client.ask(post(CHAT, body(model=name)))).status == 200
    assert [seen.json["model"] for seen in platform.upstreams["m.1"].requests] == ["m", "m-lora"]
    assert [record.route for record in platform.records()] == ["gpt-public", "m-lora"]


async def test_embeddings(start: PlatformFactory):
    platform = await start("embed.1")
    client = await platform.connect()
    answer = await client.ask(post("/v1/embeddings", json.dumps({"model": "embed", "input": "x"}).encode()))
    assert answer.json["object"] == "list"
    [record] = platform.records()
    assert (record.prompt_tokens, record.completion_tokens) == (7, 0)


async def test_models_are_listed_and_shown_even_with_a_slash_in_their_name(start: PlatformFactory):
    platform = await start()
    client = await platform.connect()
    listed = (await client.ask(get("/v1/models"))).json
    assert [card["id"] for card in listed["data"]] == ["embed", "m", "m-lora", "org/other"]
    shown = {"id": "m", "object": "model", "created": 5, "owned_by": "penstock"}
    assert listed["data"][1] == shown
    assert (await client.ask(get("/v1/models/m"))).json == shown
    assert (await client.ask(get("/v1/models/org/other"))).json["id"] == "org/other"
    assert (await client.ask(get("/v1/models/org%2Fother"))).json["id"] == "org/other"
    assert (await client.ask(get("/v1/models/none"))).error["code"] == "model_not_found"


async def test_connections_are_used_again_on_both_sides(start: PlatformFactory):
    platform = await start("m.1")
    client = await platform.connect()
    for _ in range(5):
        await client.ask(post(CHAT, body(stream=True)))
        await client.ask(post(CHAT, body()))
    assert platform.upstreams["m.1"].connections == 2  # one of them polls metrics
    assert len(platform.gateway.connections) == 1


async def test_pipelined_requests_are_answered_in_order(start: PlatformFactory):
    platform = await start("m.1")
    client = await platform.connect()
    counts = [3, 1, 2]
    await client.send(b"".join(post(CHAT, body(max_tokens=count)) for count in counts) + get("/healthz"))
    answers = [(await client.answer()).json["usage"]["completion_tokens"] for _ in counts]
    assert answers == counts
    assert (await client.answer()).json == {"status": "ready"}


async def test_a_chunked_request_body_and_expect_continue(start: PlatformFactory):
    platform = await start("m.1")
    client = await platform.connect()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n"
    await client.send(f"{head}Expect: 100-continue\r\n\r\n".encode())
    assert (await client.head())[0] == 100
    sent = body()
    for piece in (sent[:5], sent[5:]):
        await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    await client.send(b"0\r\nX-Trailer: ignored\r\n\r\n")
    assert (await client.answer()).status == 200
    assert platform.upstreams["m.1"].requests[0].body == sent


async def test_http_1_0_gets_an_answer_without_chunks_and_a_closed_connection(start: PlatformFactory):
    platform = await start("m.1")
    client = await platform.connect()
    sent = body(stream=True)
    head = f"POST {CHAT} HTTP/1.0\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(sent)}\r\n\r\n"
    answer = await client.ask(head.encode() + sent)
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"
    assert answer.events[-1] == "[DONE]"


async def test_head_requests_have_no_body(start: PlatformFactory):
    platform = await start()
    client = await platform.connect()
    answer = await client.ask(get("/v1/models", method="HEAD"))
    assert int(answer.headers["content-length"]) > 0
    assert (await client.ask(get("/healthz"))).status == 200


async def test_connection_close_is_honoured(start: PlatformFactory):
    platform = await start("m.1")
    client = await platform.connect()
    answer = await client.ask(post(CHAT, body(), "Connection: close"))
    assert answer.headers["connection"] == "close"
    assert await client.at_end()
