"""Requests that are refused: each with its status, OpenAI's shape, and the rest left running."""

import json

import pytest

from penstock.routing.keys import hash_key
from penstock.routing.snapshot import CompiledTenant
from tests.integration.gateway.conftest import KEY, PEPPER, Platform, PlatformFactory, body
from tests.support.http import Client, get, post

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {KEY}\r\n"


@pytest.fixture
async def platform(start: PlatformFactory) -> Platform:
    return await start("m.1")


@pytest.fixture
async def client(platform: Platform) -> Client:
    return await platform.connect()


@pytest.mark.parametrize(
    ("sent", "param", "code", "said"),
    [
        (b"", None, "invalid_value", "empty"),
        (b"{", None, "invalid_value", "JSON"),
        (b'{"model": "m",}', None, "invalid_value", "byte 14"),
        (b"[]", None, "invalid_value", "object"),
        (b"{}", "model", "missing_required_parameter", "'model'"),
        (b'{"model": 3}', "model", "invalid_type", "'model'"),
        (b'{"model": "m", "stream": "yes"}', "stream", "invalid_type", "'stream'"),
        (b'{"model": "m", "stream_options": 1}', "stream_options", "invalid_type", "'stream_options'"),
        (b'{"model": "\xff"}', None, "invalid_value", "UTF-8"),
        (b'{"model": "m", "x": ' + b"[" * 100_000, None, "invalid_value", "nested"),
        (b'{"model": "embed"}', "model", "invalid_value", "/v1/embeddings"),
    ],
)
async def test_a_bad_body_is_named_field_and_remedy(client: Client, sent: bytes, param: str, code: str, said: str):
    answer = await client.ask(post(CHAT, sent))
    assert answer.status == 400
    assert (answer.error["param"], answer.error["code"]) == (param, code)
    assert said in answer.error["message"]
    assert (await client.ask(post(CHAT, body()))).status == 200  # on the same connection


async def test_an_unknown_model(client: Client):
    answer = await client.ask(post(CHAT, body(model="nope")))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
    assert "'nope'" in answer.error["message"]


async def test_a_model_that_the_tenant_may_not_use_looks_unknown(platform: Platform, client: Client):
    platform.tenants = (CompiledTenant(name="acme", key_hashes=(hash_key(PEPPER, KEY),), allowed=("embed",)),)
    platform.publish()
    unknown = await client.ask(post(CHAT, body(model="nope")))
    forbidden = await client.ask(post(CHAT, body(model="m")))
    assert forbidden.status == 404
    assert forbidden.error["message"] == unknown.error["message"].replace("nope", "m")
    assert [card["id"] for card in (await client.ask(get("/v1/models"))).json["data"]] == ["embed"]


@pytest.mark.parametrize(
    "header",
    [None, "Bearer wrong", "Bearer", "Bearer ", "Basic c2stdGVzdA==", f"Bearer {KEY}x", "Bearer " + "k" * 2000],
)
async def test_a_bad_key_is_refused_with_a_challenge(client: Client, header: str | None):
    headers = () if header is None else (f"Authorization: {header}",)
    answer = await client.ask(post(CHAT, body(), *headers, key=None))
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (await client.ask(get("/v1/models", *headers, key=None))).status == 401


async def test_without_tenants_the_anonymous_one_takes_any_key(platform: Platform, client: Client):
    platform.tenants, platform.anonymous_tenant = (), "everyone"
    platform.publish()
    for key in (None, "whatever"):
        assert (await client.ask(post(CHAT, body(), key=key))).status == 200
    assert {record.tenant for record in platform.records()} == {"everyone"}


@pytest.mark.parametrize(
    ("request_bytes", "status", "allow"),
    [
        (get("/"), 404, None),
        (get("/v1/unknown"), 404, None),
        (get("/metrics"), 404, None),
        (post("/v1/models", b"{}"), 405, "GET, HEAD"),
        (get(CHAT), 405, "POST"),
        (get("/healthz", method="DELETE"), 405, "GET, HEAD"),
        (get("*", method="OPTIONS"), 404, None),
    ],
)
async def test_unknown_paths_and_methods(client: Client, request_bytes: bytes, status: int, allow: str | None):
    answer = await client.ask(request_bytes)
    assert answer.status == status
    assert answer.error["type"] == "invalid_request_error"
    assert answer.headers.get("allow") == allow


SMUGGLED = {
    "two lengths": HEAD + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "the same length twice": HEAD + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": HEAD + "Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": HEAD + "Content-Length: +2\r\n\r\n{}",
    "length and chunks": HEAD + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks not last": HEAD + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks twice": HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": HEAD.replace("1.1", "1.0") + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk size": HEAD + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a space after a chunk size": HEAD + "Transfer-Encoding: chunked\r\n\r\n2 \r\n{}\r\n0\r\n\r\n",
    "a folded header": HEAD + "X-A: b\r\n c\r\n\r\n",
    "a space before a colon": HEAD + "X-A : b\r\n\r\n",
    "a bare line feed": HEAD + "X-A: b\nX-B: c\r\n\r\n",
    "a bare carriage return": HEAD + "X-A: b\rX-B: c\r\n\r\n",
    "a null": HEAD + "X-A: b\0\r\n\r\n",
    "an empty name": HEAD + ": b\r\n\r\n",
    "no host": "GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two keys": HEAD + f"Authorization: Bearer {KEY}\r\n\r\n",
    "an unknown method": "FROB / HTTP/1.1\r\nHost: g\r\n\r\n",
    "a space in the path": "GET /a b HTTP/1.1\r\nHost: g\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no HTTP at all": "hello\r\n\r\n",
}


@pytest.mark.parametrize("sent", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_what_two_servers_could_read_differently_is_refused(platform: Platform, client: Client, sent: str):
    answer = await client.ask(sent.encode("latin-1"))
    assert answer.status == 400
    assert answer.error["code"] == "bad_http"
    assert answer.headers["connection"] == "close"
    assert await client.at_end()
    assert platform.upstreams["m.1"].requests == []


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("GET /healthz HTTP/1.2\r\nHost: g\r\n\r\n", 400),
        ("GET /healthz\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (HEAD + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (HEAD + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415),
    ],
)
async def test_versions_and_codings_not_spoken(client: Client, sent: str, status: int):
    answer = await client.ask(sent.encode())
    assert answer.status == status
    assert answer.error["type"] == "invalid_request_error"
    assert await client.at_end()


async def test_an_upgrade_is_declined_by_answering_in_http_1_1(client: Client):
    answer = await client.ask(get("/healthz", "Connection: Upgrade", "Upgrade: h2c"))
    assert answer.status == 200
    assert await client.at_end()


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_oversized_head(client: Client, at_once: bool):
    pad = b"X-Pad: " + b"x" * 70_000
    await client.send(HEAD.encode() + pad + (b"\r\n\r\n" if at_once else b""))
    answer = await client.answer()
    assert (answer.status, answer.error["code"]) == (431, "headers_too_large")


async def test_too_many_headers(client: Client):
    assert (await client.ask(get("/healthz", *(f"X-{place}: y" for place in range(101))))).status == 431


async def test_an_oversized_body_is_refused_by_its_length_before_it_comes(start: PlatformFactory):
    platform = await start("m.1", limits={"body_bytes": 1000})
    client = await platform.connect()
    answer = await client.ask(f"{HEAD}Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n".encode())
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert "1000 bytes" in answer.error["message"]


async def test_an_oversized_chunked_body_is_refused_while_it_comes(start: PlatformFactory):
    platform = await start("m.1", limits={"body_bytes": 1000})
    client = await platform.connect()
    await client.send(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
    await client.send(b"1f4\r\n" + b"x" * 500 + b"\r\n")
    await client.send(b"1f5\r\n" + b"x" * 501 + b"\r\n")
    assert (await client.answer()).status == 413
    assert platform.upstreams["m.1"].requests == []


async def test_chunk_framing_cannot_make_a_small_body_endless(start: PlatformFactory):
    platform = await start("m.1", limits={"body_bytes": 1000, "head_bytes": 1000})
    client = await platform.connect()
    await client.send(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
    await client.send(b"1;" + b"x" * 4000)
    assert (await client.answer()).status == 413


async def test_a_request_that_never_ends_runs_into_the_deadline(start: PlatformFactory):
    platform = await start("m.1", deadlines={"sweep_s": 0.01, "request_read_s": 0.05})
    client = await platform.connect()
    await client.send(f"{HEAD}Content-Length: 10\r\n\r\n{{".encode())
    answer = await client.answer()
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")


async def test_an_idle_connection_is_closed(start: PlatformFactory):
    platform = await start("m.1", deadlines={"sweep_s": 0.01, "keep_alive_s": 0.05})
    client = await platform.connect()
    assert await client.at_end()


async def test_a_refusal_waits_for_the_answers_before_it(client: Client):
    await client.send(post(CHAT, body(max_tokens=3)) + b"garbage\r\n\r\n")
    assert (await client.answer()).json["usage"]["completion_tokens"] == 3
    assert (await client.answer()).status == 400
    assert await client.at_end()


async def test_a_tenant_over_its_limit_is_told_when_to_come_back(platform: Platform, client: Client):
    platform.tenants = (CompiledTenant(name="acme", key_hashes=(hash_key(PEPPER, KEY),), requests_per_minute=2),)
    platform.publish()
    assert [(await client.ask(post(CHAT, body()))).status for _ in range(2)] == [200, 200]
    platform.publish()  # a new snapshot is no new minute
    answer = await client.ask(post(CHAT, body()))
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    assert answer.headers["x-ratelimit-limit-requests"] == "2"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-ratelimit-limit-tokens" not in answer.headers
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert "2 requests per minute" in answer.error["message"]
    assert len(platform.records()) == 2


async def test_every_error_names_its_request(client: Client):
    ids = {(await client.ask(get("/nope"))).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(len(text) == 32 for text in ids)


async def test_a_bad_snapshot_leaves_the_last_good_one_in_use(platform: Platform, client: Client):
    file = platform.gateway.settings.snapshot_file
    for bad in (b"{", json.dumps({"version": "x"}).encode(), b"\xff"):
        file.write_bytes(bad)
        platform.gateway.discovery.look()
        assert platform.gateway.discovery.error
        assert (await client.ask(post(CHAT, body()))).status == 200
    assert platform.gateway.discovery.rejected == 3
    platform.publish()
    assert platform.gateway.discovery.error is None
