"""Prompts that begin alike go where their beginning is known, and whoever may ask is told why."""

import json

import pytest

from penstock.routing.keys import hash_key
from penstock.routing.snapshot import CompiledTenant
from tests.integration.gateway.conftest import KEY, PEPPER, Platform, PlatformFactory
from tests.support.http import Answer, Client, get, post

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
ADMIN = "the-admin-token"
OTHER_KEY = "sk-other"
REPLICAS = ("m.1", "m.2", "m.3", "m.4")


def chat(*texts: str, **fields: object) -> bytes:
    messages = [{"role": ("user", "assistant")[turn % 2], "content": text} for turn, text in enumerate(texts)]
    return json.dumps({"model": "m", "messages": messages, "max_tokens": 1, **fields}).encode()


def story(name: str) -> str:
    return f"{name} " * 800


async def went_to(platform: Platform, body: bytes, key: str = KEY) -> str:
    """Send a request and return the replica that got it."""
    before = {name: len(upstream.requests) for name, upstream in platform.upstreams.items()}
    client = await platform.connect()
    assert (await client.ask(post(CHAT, body, key=key))).status == 200
    [got] = [name for name, upstream in platform.upstreams.items() if len(upstream.requests) > before[name]]
    return got


async def ask_why(platform: Platform, body: bytes, *headers: str, key: str = ADMIN) -> Answer:
    client = await platform.connect()
    return await client.ask(post(CHAT, body, "x-penstock-why: 1", *headers, key=key))


async def test_a_conversation_stays_where_its_beginning_is(start: PlatformFactory):
    platform = await start(*REPLICAS)
    homes = {name: await went_to(platform, chat(story(name))) for name in ("one", "two", "three", "four")}
    assert set(homes.values()) == set(REPLICAS)
    for name, home in reversed(homes.items()):
        assert await went_to(platform, chat(story(name), "I see.", "Go on.")) == home
        assert await went_to(platform, chat(story(name), "I see.", "Go on.", story("more"), "So?", stream=True)) == home


async def test_tenants_models_and_tools_are_not_mixed(start: PlatformFactory):
    platform = await start(*REPLICAS, admin_token=ADMIN)
    platform.tenants = (*platform.tenants, CompiledTenant(name="rival", key_hashes=(hash_key(PEPPER, OTHER_KEY),)))
    platform.publish()
    body = chat(story("one"))
    home = await went_to(platform, body)
    told = (await ask_why(platform, body, "x-penstock-tenant: acme")).json["pick"]
    assert (told["reason"], told["chosen"]) == ("prefix", home)
    for other in (
        await ask_why(platform, body, "x-penstock-tenant: rival"),
        await ask_why(platform, body),
        await ask_why(platform, chat(story("one"), tools=[{"type": "function"}]), "x-penstock-tenant: acme"),
        await ask_why(platform, chat(story("one"), model="m-lora"), "x-penstock-tenant: acme"),
    ):
        assert other.json["pick"]["reason"] == "pressure"
        assert all(candidate["matched_bytes"] == 0 for candidate in other.json["pick"]["candidates"])


async def test_an_explanation_shows_every_candidate_and_sends_nothing(start: PlatformFactory):
    platform = await start(*REPLICAS, admin_token=ADMIN)
    home = await went_to(platform, chat(story("one")))
    platform.gateway.fleet.replicas["m.4"].ejected = True
    sent = {name: len(upstream.requests) for name, upstream in platform.upstreams.items()}
    records = len(platform.records())
    answer = await ask_why(platform, chat(story("one"), "And?"), "x-penstock-tenant: acme")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    told = answer.json
    assert (told["name"], told["model"], told["tenant"]) == ("m", "m", "acme")
    candidates = {candidate["replica"]: candidate for candidate in told["pick"]["candidates"]}
    assert set(candidates) == set(REPLICAS)
    assert candidates[home]["matched_bytes"] >= 3 * 1024
    assert candidates["m.4"]["rejected"] == "Ejected"
    assert {name: len(upstream.requests) for name, upstream in platform.upstreams.items()} == sent
    assert len(platform.records()) == records
    assert (await ask_why(platform, chat("Hi", model="nothing"))).error["code"] == "model_not_found"
    assert (await ask_why(platform, chat("Hi"), "x-penstock-tenant: nobody")).error["param"] == "x-penstock-tenant"


async def test_only_the_admin_is_told(start: PlatformFactory):
    platform = await start(*REPLICAS, admin_token=ADMIN)
    assert "choices" in (await ask_why(platform, chat("Hi"), key=KEY)).json
    assert (await ask_why(platform, chat("Hi"), key="wrong")).error["code"] == "invalid_api_key"


async def test_without_an_admin_token_nobody_is_told(start: PlatformFactory):
    platform = await start(*REPLICAS)
    assert (await ask_why(platform, chat("Hi"), key="anything")).error["code"] == "invalid_api_key"


async def test_a_sample_of_picks_is_kept_for_the_admin_port(start: PlatformFactory):
    platform = await start(*REPLICAS)
    home = await went_to(platform, chat(story("one")))
    await went_to(platform, chat(story("one")))
    client = await Client.connect(platform.gateway.admin_address[1])
    platform.clients.append(client)
    [kept] = (await client.ask(get("/picks?model=m", key=None))).json
    assert (kept["model"], kept["tenant"], kept["pick"]["chosen"]) == ("m", "acme", home)
    assert (await client.ask(get("/picks?model=other", key=None))).json == []
    metrics = (await client.ask(get("/metrics", key=None))).body.decode()
    assert 'penstock_gateway_picks_total{model="m",reason="pressure"} 1.0' in metrics
    assert 'penstock_gateway_picks_total{model="m",reason="prefix"} 1.0' in metrics


async def test_a_replica_that_was_ejected_or_moved_is_taken_for_empty(start: PlatformFactory):
    platform = await start(*REPLICAS, admin_token=ADMIN)
    body = chat(story("one"))
    home = await went_to(platform, body)
    platform.gateway.ejections.eject(platform.gateway.fleet.replicas[home])
    platform.gateway.fleet.replicas[home].ejected = False
    assert (await ask_why(platform, body, "x-penstock-tenant: acme")).json["pick"]["reason"] == "pressure"
    home = await went_to(platform, body)
    await platform.upstreams[home].stop()
    await platform.add(home)
    assert (await ask_why(platform, body, "x-penstock-tenant: acme")).json["pick"]["reason"] == "pressure"


async def test_one_replica_needs_no_index(start: PlatformFactory):
    platform = await start("m.1")
    await went_to(platform, chat(story("one")))
    assert len(platform.gateway.fleet.affinities["m"].index) == 0
