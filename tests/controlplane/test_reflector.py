"""A mirror of a real API server through everything that can interrupt it."""

import asyncio
import contextlib
import secrets
import time

import pytest

from penstock_kube.client import KubeClient
from penstock_kube.clock import Backoff
from penstock_kube.config import Access
from penstock_kube.reflector import Reflector
from penstock_kube.resources import CONFIG_MAPS
from tests.support.fault_proxy import fault_proxy

pytestmark = [pytest.mark.anyio, pytest.mark.controlplane]

QUICK = Backoff(base_s=0.1, cap_s=1.0)


class Noted:
    """What client and reflector report."""

    def __init__(self):
        self.reasons = []
        self.verbs = []

    def called(self, verb, plural, code, seconds):
        self.verbs.append(verb)

    def watch_restarted(self, plural, reason):
        self.reasons.append(reason)


class Mirror:
    """A running reflector of one namespace, through a proxy."""

    def __init__(self, plane, proxy, reflector, noted):
        self.plane, self.proxy, self.reflector, self.noted = plane, proxy, reflector, noted

    def names(self):
        return {obj["metadata"]["name"] for obj in self.reflector.store.all() if obj["metadata"]["name"] != ROOT_CA}

    async def write(self, name):
        await asyncio.to_thread(self.plane.call, "POST", f"{self._path}", {"metadata": {"name": name}})

    async def delete(self, name):
        await asyncio.to_thread(self.plane.call, "DELETE", f"{self._path}/{name}")

    @property
    def _path(self):
        return f"/api/v1/namespaces/{self.reflector.namespace}/configmaps"


ROOT_CA = "kube-root-ca.crt"


async def until(condition, within_s=30.0):
    """Wait for a condition to hold."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        await asyncio.sleep(0.02)


@pytest.fixture
async def mirror(breakable):
    """A mirror of a fresh namespace that holds `a` and `b`."""
    namespace = f"mirror-{secrets.token_hex(4)}"
    await asyncio.to_thread(breakable.call, "POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    noted = Noted()
    async with fault_proxy(breakable.port) as proxy:
        access = Access(str(breakable.kubeconfig(port=proxy.port)))
        async with KubeClient(access, field_manager="mirror", timeout_s=3.0, observer=noted) as client:
            reflector = Reflector(
                client, CONFIG_MAPS, namespace=namespace, backoff=QUICK, silence_s=2.0, observer=noted
            )
            mirror = Mirror(breakable, proxy, reflector, noted)
            await mirror.write("a")
            task = asyncio.create_task(reflector.run())
            await asyncio.wait_for(reflector.wait_synced(), 10)
            await mirror.write("b")
            await until(lambda: mirror.names() == {"a", "b"})  # the watch is up as well
            yield mirror
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_it_follows_writes_and_deletions(mirror):
    await mirror.write("c")
    await mirror.delete("a")
    await until(lambda: mirror.names() == {"b", "c"})


async def test_a_cut_connection_is_resumed_without_another_list(mirror):
    mirror.proxy.cut()
    await until(lambda: mirror.noted.reasons)
    await mirror.delete("a")
    await until(lambda: mirror.names() == {"b"})
    assert mirror.noted.reasons == ["UnreachableError"]
    assert mirror.noted.verbs.count("list") == 1


async def test_a_stalled_connection_is_given_up_after_its_silence(mirror):
    mirror.proxy.stall()
    await mirror.delete("a")
    await until(lambda: mirror.noted.reasons)
    mirror.proxy.flow()
    await until(lambda: mirror.names() == {"b"})


async def test_a_restarted_api_server_is_followed_from_where_we_were(mirror):
    await asyncio.to_thread(mirror.plane.restart_apiserver, kill=True)
    await mirror.write("c")
    await until(lambda: mirror.names() == {"a", "b", "c"})


async def test_what_was_deleted_in_an_outage_that_outlived_history_is_found_out(mirror):
    told = []
    mirror.reflector.add_handler(lambda change: told.append((change.key.name, change.new is None)))
    mirror.proxy.refuse()
    await mirror.delete("a")
    await mirror.write("c")
    await asyncio.to_thread(mirror.plane.compact)
    # A fresh server's cache begins now: our version is older than all that it knows.
    await asyncio.to_thread(mirror.plane.restart_apiserver)
    mirror.proxy.flow()
    await until(lambda: mirror.names() == {"b", "c"})
    assert ("a", True) in told
    assert "gone" in mirror.noted.reasons


async def test_a_frozen_etcd_costs_nothing_but_time(mirror):
    mirror.plane.etcd.pause()
    writing = asyncio.create_task(mirror.write("c"))
    await until(lambda: len(mirror.noted.reasons) >= 1)  # no bookmarks either: the watch is given up as silent
    mirror.plane.etcd.resume()
    await writing
    await until(lambda: mirror.names() == {"a", "b", "c"})
