"""A mirror that is interrupted in every way, on a clock that stands still."""

import asyncio

import pytest

from penstock_kube.client import Listing, WatchEvent
from penstock_kube.clock import Backoff
from penstock_kube.errors import GoneError, ThrottledError, UnreachableError
from penstock_kube.reflector import Reflector
from penstock_kube.resources import CONFIG_MAPS
from tests.unit.kube.fake_clock import FakeClock, settle

pytestmark = pytest.mark.anyio


def config_map(name, version):
    return {"metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": str(version)}}


class ScriptedServer:
    """Answers lists from `lists`, and watches from `watches`: events, then an error or the end."""

    def __init__(self, lists, watches):
        self.lists, self.watches = list(lists), list(watches)
        self.asked = []

    async def list(self, kind, namespace, **selectors):
        self.asked.append("list")
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Listing(*answer)

    async def watch(self, kind, namespace, *, resource_version, **options):
        self.asked.append(f"watch {resource_version}")
        if not self.watches:
            await asyncio.get_running_loop().create_future()
        for event in self.watches.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event


class Restarts:
    def __init__(self):
        self.reasons = []

    def watch_restarted(self, plural, reason):
        self.reasons.append(reason)


async def mirror(server, clock, **options):
    """Run a reflector for ten minutes and return it with what its handler was told."""
    reflector = Reflector(
        server, CONFIG_MAPS, clock=clock, rng=lambda: 0.0, backoff=Backoff(1.0, 8.0, jitter=0.0), **options
    )
    told = []
    reflector.add_handler(lambda change: told.append((change.key.name, change.new is not None)))
    task = asyncio.ensure_future(reflector.run())
    await clock.advance(600.0)
    task.cancel()
    await settle()
    return reflector, told


async def test_a_watch_that_ends_is_resumed_from_the_last_version_seen():
    server = ScriptedServer(
        [([config_map("a", 3)], "5")],
        [[WatchEvent("MODIFIED", config_map("a", 7))], [WatchEvent("BOOKMARK", config_map("", 20))]],
    )
    reflector, told = await mirror(server, FakeClock())
    assert server.asked == ["list", "watch 5", "watch 7", "watch 20"]
    assert told == [("a", True), ("a", True)]
    assert reflector.has_synced


async def test_an_expired_version_lists_again_and_tells_the_deletion_that_no_watch_told():
    server = ScriptedServer(
        [([config_map("a", 3), config_map("b", 4)], "5"), ([config_map("b", 4), config_map("c", 8)], "9")],
        [[GoneError(410, "Expired", "too old resource version")]],
    )
    _, told = await mirror(server, FakeClock())
    assert server.asked == ["list", "watch 5", "list", "watch 9"]
    assert told == [("a", True), ("b", True), ("a", False), ("c", True)]


async def test_failures_in_a_row_wait_longer_and_an_event_starts_over():
    down = UnreachableError("refused")
    server = ScriptedServer([([], "1")], [[down], [down], [down], [WatchEvent("ADDED", config_map("a", 2)), down]])
    clock, restarts = FakeClock(), Restarts()
    await mirror(server, clock, observer=restarts)
    assert clock.slept == [1.0, 2.0, 4.0, 1.0]
    assert restarts.reasons == ["UnreachableError"] * 4


async def test_what_the_server_asks_for_is_the_least_wait():
    busy = ThrottledError(429, "TooManyRequests", "storage is (re)initializing", retry_after_s=5.0)
    clock = FakeClock()
    await mirror(ScriptedServer([busy, ([], "1")], []), clock)
    assert clock.slept == [5.0]


async def test_a_server_that_ends_each_watch_at_once_is_not_hammered():
    clock = FakeClock()
    server = ScriptedServer([([], "1")], [[] for _ in range(6)])
    await mirror(server, clock)
    assert clock.slept == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


async def test_it_is_not_synced_before_the_first_list_came():
    server = ScriptedServer([UnreachableError("refused"), ([], "1")], [])
    clock = FakeClock()
    reflector = Reflector(server, CONFIG_MAPS, clock=clock, rng=lambda: 0.0)
    task = asyncio.ensure_future(reflector.run())
    await settle()
    assert not reflector.has_synced
    await clock.advance(1.0)
    assert reflector.has_synced
    task.cancel()
    await settle()


async def test_a_handler_that_comes_late_is_told_what_is_there():
    server = ScriptedServer([([config_map("a", 3)], "5")], [])
    reflector, _ = await mirror(server, FakeClock())
    late = []
    reflector.add_handler(lambda change: late.append(change.key.name))
    assert late == ["a"]
