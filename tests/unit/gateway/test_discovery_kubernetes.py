"""Discovery on a clock that stands still and a scripted API server: what is applied, when, and how often."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from penstock.routing.published import (
    CONFIG_KEY,
    CONFIG_MAP,
    MODEL_LABEL,
    VARIANT_ANNOTATION,
    NamespaceRouting,
    encode_routing,
)
from penstock.routing.snapshot import RoutingSnapshot, ServedModel
from penstock_gateway.discovery.kubernetes import KubernetesDiscovery
from penstock_gateway.settings import KubernetesOptions
from penstock_kube.client import Listing, WatchEvent
from penstock_kube.errors import UnreachableError
from tests.unit.kube.fake_clock import FakeClock, settle

pytestmark = pytest.mark.anyio


def config_map(*models: str, namespace: str = "ns", version: int = 1, text: str | None = None):
    routing = NamespaceRouting(models=tuple(ServedModel(name=name) for name in models))
    metadata = {"name": CONFIG_MAP, "namespace": namespace, "uid": namespace, "resourceVersion": str(version)}
    return {"metadata": metadata, "data": {CONFIG_KEY: text or encode_routing(routing)}}


def endpoint_slice(name: str, model: str, *replicas: str, namespace: str = "ns", version: int = 1):
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"{namespace}-{name}",
            "resourceVersion": str(version),
            "labels": {MODEL_LABEL: model},
            "annotations": {VARIANT_ANNOTATION: "v"},
        },
        "ports": [{"port": 1}],
        "endpoints": [{"hostname": replica, "addresses": ["192.0.2.1"]} for replica in replicas],
    }


class Server:
    """Lists what a test put here, and streams what it sends."""

    def __init__(self):
        self.lists = {"configmaps": [], "endpointslices": []}
        self.away = set()
        self.selectors = []
        self._events = {plural: asyncio.Queue() for plural in self.lists}

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def list(self, kind, namespace, **selectors):
        self.selectors.append((kind.plural, namespace, selectors))
        if {kind.plural, namespace} & self.away:
            raise UnreachableError("away")
        items = [item for item in self.lists[kind.plural] if namespace in ("", item["metadata"]["namespace"])]
        return Listing(items, "1")

    async def watch(self, kind, namespace, **_):
        while True:
            yield await self._events[kind.plural].get()

    def send(self, plural, obj, type_="MODIFIED"):
        self._events[plural].put_nowait(WatchEvent(type_, obj))


class Applied(list):
    """Snapshots in the order in which they were applied, with whether each was confirmed."""

    def __call__(self, snapshot: RoutingSnapshot, *, confirmed: bool = True) -> None:
        self.append((snapshot, confirmed))

    @property
    def models(self):
        return sorted(model.name for model in self[-1][0].models)

    @property
    def replicas(self):
        return [replica.id for replica in self[-1][0].replicas]


@pytest.fixture
async def run():
    """Run a discovery on a clock of its own."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(server: Server, **options):
            clock, applied = FakeClock(), Applied()
            discovery = KubernetesDiscovery(
                KubernetesOptions(enabled=True, **options), applied, client=server, clock=clock, rng=lambda: 0.0
            )
            discovery.prepare()
            task = asyncio.create_task(discovery.run())

            async def stop():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

            stack.push_async_callback(stop)
            await settle()
            return discovery, clock, applied

        yield start


async def test_nothing_is_asked_that_a_narrow_role_does_not_grant(run):
    server = Server()
    await run(server, namespaces=("a", "b"))
    assert sorted(server.selectors, key=str) == [
        ("configmaps", namespace, {"label_selector": None, "field_selector": "metadata.name=penstock-routing"})
        for namespace in ("a", "b")
    ] + [
        (
            "endpointslices",
            namespace,
            {"label_selector": "endpointslice.kubernetes.io/managed-by=penstock.dev", "field_selector": None},
        )
        for namespace in ("a", "b")
    ]


async def test_a_burst_of_changes_is_one_swap(run):
    server = Server()
    server.lists["configmaps"] = [config_map("m")]
    _, clock, applied = await run(server)
    await clock.advance(1.0)
    assert [snapshot.version for snapshot, _ in applied] == [1]
    for version in range(2, 30):
        server.send("endpointslices", endpoint_slice("s", "m", f"r-{version}", version=version))
    await clock.advance(1.0)
    assert [snapshot.version for snapshot, _ in applied] == [1, 2]
    assert applied.replicas == ["r-29"]


async def test_a_steady_stream_of_changes_swaps_at_most_twenty_times_a_second(run):
    server = Server()
    server.lists["configmaps"] = [config_map("m")]
    _, clock, applied = await run(server)
    await clock.advance(1.0)
    before = len(applied)
    for version in range(2, 502):
        server.send("endpointslices", endpoint_slice("s", "m", f"r-{version}", version=version))
        await clock.advance(0.01)
    assert 50 < len(applied) - before <= 5.0 / 0.05


async def test_a_change_that_changes_nothing_for_a_gateway_swaps_nothing(run):
    server = Server()
    server.lists["configmaps"] = [config_map("m")]
    _, clock, applied = await run(server)
    await clock.advance(1.0)
    server.send("configmaps", config_map("m", version=2))
    await clock.advance(1.0)
    assert len(applied) == 1


async def test_nothing_is_applied_before_everything_is_listed(run):
    server = Server()
    server.lists["configmaps"] = [config_map("m")]
    server.away = {"endpointslices"}
    discovery, clock, applied = await run(server)
    await clock.advance(1.0)
    assert applied == []
    assert discovery.error == "not listed yet since start: endpointslices"
    server.away = set()
    await clock.advance(5.0)
    assert [confirmed for _, confirmed in applied] == [True]
    assert discovery.error is None


async def test_one_namespace_that_cannot_be_listed_holds_up_the_others_for_a_while_only(run):
    server = Server()
    server.lists["configmaps"] = [config_map("m"), config_map("n", namespace="dark")]
    server.away = {"dark"}
    _, clock, applied = await run(server, namespaces=("ns", "dark"), first_lists_s=10)
    await clock.advance(9.0)
    assert applied == []
    await clock.advance(2.0)
    assert applied.models == ["m"]
    assert [confirmed for _, confirmed in applied] == [False]
    server.away = set()
    await clock.advance(30.0)
    assert applied.models == ["m", "n"]
    assert [confirmed for _, confirmed in applied] == [False, True]


async def test_an_object_that_went_bad_keeps_its_last_good_form_until_it_is_deleted(run):
    server = Server()
    server.lists["configmaps"] = [config_map("m")]
    discovery, clock, applied = await run(server)
    await clock.advance(1.0)
    server.send("configmaps", config_map(version=2, text="{"))
    await clock.advance(1.0)
    assert applied.models == ["m"]
    assert (discovery.rejected, discovery.cluster().skipped["configmaps"]) == (1, 1)
    assert "ns/penstock-routing" in discovery.error
    server.send("configmaps", config_map(version=3, text="{"), "DELETED")
    await clock.advance(1.0)
    assert applied.models == []
    assert discovery.error is None


async def saved(path: Path, text: str) -> None:
    """Wait for the thread that writes the cache."""

    def there() -> bool:
        return path.exists() and text in path.read_text()

    async with asyncio.timeout(10):
        while not await asyncio.to_thread(there):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.001)


async def test_what_was_known_outlives_the_process_and_is_replaced_by_what_is(run, tmp_path: Path):
    cache = tmp_path / "folder" / "cache.json"
    server = Server()
    server.lists["configmaps"] = [config_map("m"), config_map("left", namespace="gone")]
    server.lists["endpointslices"] = [endpoint_slice("s", "m", "r-1"), endpoint_slice("old", "m", "r-old")]
    _, clock, _ = await run(server, cache_file=cache)
    await clock.advance(1.0)
    await saved(cache, "r-old")
    server.away = {"configmaps", "endpointslices"}
    _, clock, applied = await run(server, cache_file=cache)
    assert [confirmed for _, confirmed in applied] == [False]
    assert sorted(applied.replicas) == ["r-1", "r-old"]
    server.away = {"configmaps"}
    server.lists["configmaps"].pop()
    server.lists["endpointslices"].pop()
    await clock.advance(30.0)
    assert applied.replicas == ["r-1"], "what is listed is believed"
    assert applied.models == ["left", "m"], "what is not listed yet is remembered"
    assert not applied[-1][1]
    server.away = set()
    await clock.advance(30.0)
    assert applied.models == ["m"]
    assert applied[-1][1]


@pytest.mark.parametrize("content", [b"", b"{", b'{"slices": 3}', b"\xff"])
async def test_a_cache_that_cannot_be_read_is_no_cache(run, tmp_path: Path, content: bytes):
    cache = tmp_path / "cache.json"
    cache.write_bytes(content)
    server = Server()
    server.away = {"configmaps", "endpointslices"}
    _, _, applied = await run(server, cache_file=cache)
    assert applied == []


async def test_a_disk_that_takes_no_cache_stops_nothing(run, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    server = Server()
    server.lists["configmaps"] = [config_map("m")]
    _, clock, applied = await run(server, cache_file=tmp_path / "file" / "cache.json")
    await clock.advance(1.0)
    server.send("configmaps", config_map("n", version=2))
    await clock.advance(1.0)
    assert applied.models == ["n"]


async def test_silence_is_counted_from_the_start_or_the_last_word(run):
    server = Server()
    server.away = {"endpointslices"}
    discovery, clock, _ = await run(server)
    await clock.advance(7.0)
    report = discovery.cluster()
    assert report.silence_s["endpointslices"] == pytest.approx(7.0)
    assert report.restarts[("endpointslices", "UnreachableError")] >= 3
