"""What the client makes of answers that a healthy API server does not give, from a small server at its protocol."""

import json

import pytest
from aiohttp import web

from penstock_kube.client import KubeClient
from penstock_kube.config import Access
from penstock_kube.errors import ForbiddenError, GoneError, ServerError, ThrottledError, UnreachableError
from penstock_kube.resources import CONFIG_MAPS
from tests.unit.kube.fake_clock import FakeClock

pytestmark = pytest.mark.anyio

BUSY = {"kind": "Status", "code": 429, "reason": "TooManyRequests", "message": "too many requests"}
EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
FINE = {"metadata": {"namespace": "ns", "name": "a", "resourceVersion": "1"}}


class InstantClock(FakeClock):
    """Notes how long somebody would have slept."""

    async def sleep(self, seconds):
        self.slept.append(seconds)


class Server:
    """Gives scripted answers in turn, the last one for ever, and counts what it was asked."""

    def __init__(self):
        self.answers = []
        self.asked = []

    async def handle(self, request):
        self.asked.append((request.method, request.path_qs))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            request.transport.abort()
            return web.Response()
        return answer()


def status(code, body, **headers):
    return lambda: web.json_response(body, status=code, headers=headers)


def text(code, body):
    return lambda: web.Response(status=code, text=body)


@pytest.fixture
async def clock():
    return InstantClock()


@pytest.fixture
async def server(tmp_path, clock):
    server = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        "users": [{"name": "test", "user": {"token": "t"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    async with KubeClient(Access(str(path)), field_manager="test", clock=clock, rng=lambda: 0.0) as server.client:
        yield server
    await runner.cleanup()


async def test_a_call_that_is_turned_away_is_repeated_when_the_server_asked(server, clock):
    server.answers = [status(429, BUSY, **{"Retry-After": "7"}), status(200, FINE)]
    await server.client.apply(CONFIG_MAPS, {"metadata": {"namespace": "ns", "name": "a"}})
    assert clock.slept == [7.0]
    assert len(server.asked) == 2


async def test_a_server_that_stays_busy_is_told_of(server, clock):
    server.answers = [status(429, BUSY, **{"Retry-After": "1"})]
    with pytest.raises(ThrottledError) as caught:
        await server.client.get(CONFIG_MAPS, "ns", "a")
    assert caught.value.retry_after_s == 1.0
    assert len(server.asked) == 4


async def test_an_absurd_wait_is_cut(server, clock):
    server.answers = [status(503, BUSY, **{"Retry-After": "86400"}), status(200, FINE)]
    await server.client.get(CONFIG_MAPS, "ns", "a")
    assert clock.slept == [60.0]


@pytest.mark.parametrize("answer", [None, status(500, BUSY)], ids=["reset", "500"])
async def test_a_write_that_may_have_happened_is_not_repeated(server, answer):
    server.answers = [answer]
    with pytest.raises((UnreachableError, ServerError)) as caught:
        await server.client.create(CONFIG_MAPS, FINE)
    assert caught.value.retryable
    assert len(server.asked) == 1


async def test_a_proxys_page_is_quoted(server):
    server.answers = [text(502, "<h1>Bad Gateway</h1>")]
    with pytest.raises(ServerError, match="502 Bad Gateway: <h1>"):
        await server.client.get(CONFIG_MAPS, "ns", "a")


async def test_a_login_page_is_no_object(server):
    server.answers = [text(200, "<h1>Please log in</h1>")]
    with pytest.raises(UnreachableError, match="not JSON"):
        await server.client.get(CONFIG_MAPS, "ns", "a")


async def test_a_refusal_is_not_repeated(server):
    server.answers = [status(403, {"kind": "Status", "reason": "Forbidden", "message": "no"})]
    with pytest.raises(ForbiddenError):
        await server.client.get(CONFIG_MAPS, "ns", "a")
    assert len(server.asked) == 1


async def watched(server):
    return [event async for event in server.client.watch(CONFIG_MAPS, resource_version="1")]


async def test_an_error_within_a_watch_is_raised(server):
    lines = [{"type": "ADDED", "object": FINE}, {"type": "ERROR", "object": EXPIRED}]
    server.answers = [text(200, "".join(json.dumps(line) + "\n" for line in lines))]
    with pytest.raises(GoneError, match="too old resource version"):
        await watched(server)


async def test_a_watch_that_breaks_within_a_line_is_unreachable(server):
    server.answers = [text(200, json.dumps({"type": "ADDED", "object": FINE})[:40])]
    with pytest.raises(UnreachableError, match="broke off within a line"):
        await watched(server)


async def test_a_watch_asks_for_bookmarks_from_its_version(server):
    server.answers = [text(200, "")]
    assert await watched(server) == []
    (_, asked) = server.asked[0]
    assert {"watch=true", "allowWatchBookmarks=true", "resourceVersion=1"} <= set(asked.split("?")[1].split("&"))
