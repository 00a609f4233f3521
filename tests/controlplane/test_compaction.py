"""History that etcd has forgotten, without a cache in the API server that would still know it."""

import asyncio

import pytest

from penstock_kube.client import KubeClient
from penstock_kube.config import Access
from penstock_kube.errors import GoneError
from penstock_kube.resources import CONFIG_MAPS
from tests.support.control_plane import control_plane

pytestmark = [pytest.mark.anyio, pytest.mark.controlplane]


@pytest.fixture(scope="module")
def forgetful():
    with control_plane(apiserver_flags=["--watch-cache=false"]) as running:
        yield running


def config_map(name):
    return {"metadata": {"namespace": "default", "name": name}}


class CompactAfterFirstPage:
    """Compacts history as soon as one page has been read."""

    def __init__(self, plane):
        self.plane = plane
        self.codes = []

    def called(self, verb, plural, code, seconds):
        if verb == "list":
            self.codes.append(code)
            if len(self.codes) == 1:
                # Compaction takes what is older than now, so there has to be something newer than the page.
                self.plane.call("POST", "/api/v1/namespaces/default/configmaps", config_map("newer"))
                self.plane.compact()


async def test_a_list_overtaken_between_two_pages_is_read_again(forgetful, monkeypatch):
    monkeypatch.setattr("penstock_kube.client._PAGE", 3)
    observer = CompactAfterFirstPage(forgetful)
    access = Access(str(forgetful.kubeconfig()))
    async with KubeClient(access, field_manager="a", observer=observer) as client:
        for number in range(7):
            await client.apply(CONFIG_MAPS, config_map(f"page-{number}"))
        listing = await client.list(CONFIG_MAPS, "default")
    assert observer.codes == [200, 410, 200]
    assert {f"page-{number}" for number in range(7)} <= {item["metadata"]["name"] for item in listing.items}


async def test_a_watch_from_a_forgotten_version_says_gone(forgetful):
    async with KubeClient(Access(str(forgetful.kubeconfig())), field_manager="a") as client:
        old = (await client.apply(CONFIG_MAPS, config_map("old")))["metadata"]["resourceVersion"]
        await client.apply(CONFIG_MAPS, {**config_map("old"), "data": {"a": "1"}})
        await client.apply(CONFIG_MAPS, {**config_map("old"), "data": {"a": "2"}})
        await asyncio.to_thread(forgetful.compact)
        with pytest.raises(GoneError):
            async for _ in client.watch(CONFIG_MAPS, "default", resource_version=old, timeout_s=5):
                pass
