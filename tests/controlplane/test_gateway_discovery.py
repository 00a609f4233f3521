"""A gateway that discovers what to serve from a real API server, with the rights it has in production and no more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.routing.keys import hash_key
from penstock.routing.published import CONFIG_MAP, NamespaceRouting
from penstock.routing.snapshot import CompiledTenant, ServedModel
from penstock_gateway.gateway import Gateway
from penstock_gateway.settings import Settings
from tests.support.control_plane import ControlPlane, control_plane
from tests.support.http import Client, get, post
from tests.support.published import DRAINING, GONE, READY, Namespace, own_address
from tests.support.upstream import Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.controlplane]
CHAT = "/v1/chat/completions"
PEPPER = b"pepper"
LISTENING = re.compile(r"listening: data \S+ port (\d+), admin \S+ port (\d+)")
RULES = (
    {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CONFIG_MAP], "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that the gateway runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """A control plane whose parts may be stopped, and must be started again."""
    with control_plane(users=("gateway", "confined")) as running:
        running.grant("gateway", *RULES)
        yield running


@pytest.fixture
def namespace(cluster: ControlPlane) -> Iterator[Namespace]:
    namespace = Namespace(cluster).create()
    yield namespace
    namespace.clear()


@pytest.fixture
async def engine() -> AsyncIterator[Upstream]:
    engine = await Upstream().start(host=own_address())
    yield engine
    await engine.stop()


Start = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def start(cluster: ControlPlane, tmp_path: Path) -> AsyncIterator[Start]:
    """Start gateways in this loop; keyword arguments are of `KubernetesOptions`."""
    pepper = tmp_path / "pepper"
    pepper.write_bytes(PEPPER)
    async with contextlib.AsyncExitStack() as stack:

        async def factory(user: str = "gateway", **options: Any) -> Gateway:
            values = {
                "data_port": 0,
                "admin_port": 0,
                "pepper_file": pepper,
                "spool_directory": tmp_path / "spool",
                "load_poll_s": 3600.0,
                "kubernetes": {
                    "enabled": True,
                    "kubeconfig": cluster.kubeconfig(user),
                    "anonymous_tenant": "anyone",
                    "retry_cap_s": 0.5,
                    **options,
                },
            }
            gateway = Gateway(Settings.model_validate(values))
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            return gateway

        yield factory


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        await asyncio.sleep(0.02)


async def ask(port: int, model: str, key: str | None = None) -> int:
    client = await Client.connect(port)
    try:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
        return (await client.ask(post(CHAT, body, key=key))).status
    finally:
        client.abort()


async def admin(port: int, path: str) -> Any:
    client = await Client.connect(port)
    try:
        answer = await client.ask(get(path, key=None))
        return answer.body.decode() if path == "/metrics" else answer.json
    finally:
        client.abort()


def states(gateway: Gateway) -> dict[str, str]:
    return {name: replica.replica.state.value for name, replica in gateway.fleet.replicas.items()}


async def test_what_is_published_is_served(start: Start, namespace: Namespace, engine: Upstream):
    gateway = await start()
    await until(lambda: gateway.fleet.snapshot.version > 0)
    namespace.publish()
    namespace.slice(engine.port, ["r-1"])
    await until(lambda: "r-1" in gateway.fleet.replicas)
    assert await ask(gateway.data_address[1], namespace.name) == 200
    assert engine.requests[0].path == f"/v{CHAT}"
    assert "r-1" in gateway.load().routable
    namespace.slice(engine.port, {"r-1": DRAINING, "r-2": READY, "r-3": GONE})
    await until(lambda: "r-2" in gateway.fleet.replicas)
    assert {name: state for name, state in states(gateway).items() if name in {"r-1", "r-2", "r-3"}} == {
        "r-1": "Draining",
        "r-2": "Ready",
    }
    assert "r-1" not in gateway.load().routable
    namespace.delete_routing()
    await until(lambda: namespace.name not in gateway.fleet.models)
    assert await ask(gateway.data_address[1], namespace.name) == 404


async def test_requests_under_way_when_a_replica_drains_and_goes_are_all_answered(start: Start, namespace: Namespace):
    gateway = await start()
    engines = [await Upstream().start(host=own_address()) for _ in range(2)]
    namespace.publish()
    for number, engine in enumerate(engines):
        namespace.slice(engine.port, [f"r-{number}"], name=f"slice-{number}")
    await until(lambda: {"r-0", "r-1"} <= gateway.fleet.replicas.keys())
    statuses: list[int] = []
    stop = asyncio.Event()

    async def requests() -> None:
        client = await Client.connect(gateway.data_address[1])
        while not stop.is_set():
            body = json.dumps({"model": namespace.name, "messages": [], "stream": len(statuses) % 2 == 0}).encode()
            statuses.append((await client.ask(post(CHAT, body, key=None))).status)
        client.abort()

    async with contextlib.AsyncExitStack() as stack:
        running = [asyncio.create_task(requests()) for _ in range(8)]
        stack.push_async_callback(gather_cancelled, running)
        for engine in engines:
            stack.push_async_callback(engine.stop)
        await drain_and_return(gateway, namespace, engines[1], statuses)
        stop.set()
        await asyncio.gather(*running)
    assert set(statuses) == {200}
    assert not gateway.relay.tally.retries


async def gather_cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def drain_and_return(gateway: Gateway, namespace: Namespace, engine: Upstream, statuses: list[int]) -> None:
    for _ in range(3):
        await asyncio.to_thread(namespace.slice, engine.port, {"r-1": DRAINING}, name="slice-1")
        await until(lambda: "r-1" not in gateway.load().routable)
        await until(lambda: gateway.fleet.replicas["r-1"].in_flight == 0)
        sent = len(engine.requests)
        before = len(statuses)
        await until(lambda start=before: len(statuses) > start + 50)
        assert len(engine.requests) == sent
        await asyncio.to_thread(namespace.delete_slice, "slice-1")
        await until(lambda: "r-1" not in gateway.fleet.replicas)
        await asyncio.to_thread(namespace.slice, engine.port, ["r-1"], name="slice-1")
        await until(lambda start=sent: len(engine.requests) > start)


async def test_a_rollout_moves_traffic_by_weight(start: Start, namespace: Namespace, engine: Upstream):
    gateway = await start()
    namespace.publish()
    namespace.slice(engine.port, ["old-1"], name="old", variant="old", weight="0")
    namespace.slice(engine.port, ["new-1"], name="new", variant="new", weight="100")
    await until(lambda: {"old-1", "new-1"} <= gateway.fleet.replicas.keys())
    for _ in range(10):
        assert await ask(gateway.data_address[1], namespace.name) == 200
    assert {seen.path for seen in engine.requests} == {f"/new{CHAT}"}
    namespace.delete_slice("new")
    await until(lambda: "new-1" not in gateway.fleet.replicas)
    assert await ask(gateway.data_address[1], namespace.name) == 200
    assert engine.requests[-1].path == f"/old{CHAT}"


async def test_malformed_objects_leave_the_last_good_ones_in_use(start: Start, namespace: Namespace, engine: Upstream):
    gateway = await start()
    namespace.publish()
    namespace.slice(engine.port, ["r-1"], weight="1")
    await until(lambda: "r-1" in gateway.fleet.replicas)
    rejected = gateway.discovery.rejected
    namespace.publish('{"models": [{"name": 7}]}')
    namespace.slice(engine.port, ["r-2"], weight="many")
    await until(lambda: gateway.discovery.rejected >= rejected + 2)
    assert await ask(gateway.data_address[1], namespace.name) == 200
    assert "models[0].name" in (gateway.discovery.error or "")
    assert "'many'" in (gateway.discovery.error or "")
    assert 'penstock_gateway_discovery_skipped_total{kind="configmaps"} 1.0' in await admin(
        gateway.admin_address[1], "/metrics"
    )
    namespace.publish()
    namespace.slice(engine.port, ["r-2"])
    await until(lambda: gateway.discovery.error is None)
    await until(lambda: "r-2" in gateway.fleet.replicas)
    assert "r-1" not in gateway.fleet.replicas


async def test_a_tenant_reaches_names_of_its_own_namespace_only(
    start: Start, namespace: Namespace, cluster: ControlPlane, engine: Upstream
):
    other = Namespace(cluster).create()
    for each in (namespace, other):
        tenant = CompiledTenant(name=f"team-{each.name}", key_hashes=(hash_key(PEPPER, f"sk-{each.name}"),))
        each.publish(NamespaceRouting(models=(ServedModel(name=each.name),), tenants=(tenant,)))
        each.slice(engine.port, [f"{each.name}-1"])
    gateway = await start(anonymous_tenant=None)
    port = gateway.data_address[1]
    await until(lambda: {f"{namespace.name}-1", f"{other.name}-1"} <= gateway.fleet.replicas.keys())
    assert await ask(port, namespace.name, key=f"sk-{namespace.name}") == 200
    assert await ask(port, other.name, key=f"sk-{namespace.name}") == 404
    assert await ask(port, other.name) == 401


async def test_a_restarted_api_server_and_a_frozen_etcd_cost_no_request(
    start: Start, namespace: Namespace, cluster: ControlPlane, engine: Upstream
):
    gateway = await start()
    port = gateway.data_address[1]
    namespace.publish()
    namespace.slice(engine.port, ["r-1"])
    await until(lambda: "r-1" in gateway.fleet.replicas)
    cluster.apiserver.stop(kill=True)
    report = gateway.discovery.cluster()
    assert report is not None
    before = sum(report.restarts.values())
    await until(lambda: sum(gateway.discovery.cluster().restarts.values()) > before)
    assert await ask(port, namespace.name) == 200
    assert (await admin(gateway.admin_address[1], "/readyz"))["status"] == "ready"
    cluster.apiserver.start()
    await asyncio.to_thread(cluster.wait_until_ready)
    await asyncio.to_thread(namespace.slice, engine.port, ["r-2"])
    await until(lambda: "r-2" in gateway.fleet.replicas)
    assert "r-1" not in gateway.fleet.replicas
    cluster.etcd.pause()
    try:
        writing = asyncio.create_task(asyncio.to_thread(namespace.slice, engine.port, ["r-3"]))
        for _ in range(20):
            assert await ask(port, namespace.name) == 200
    finally:
        cluster.etcd.resume()
    await writing
    await until(lambda: "r-3" in gateway.fleet.replicas)


async def test_listed_namespaces_need_rights_there_only_and_one_refusal_holds_up_no_other(
    start: Start, namespace: Namespace, cluster: ControlPlane, engine: Upstream
):
    group = "rbac.authorization.k8s.io"
    forbidden = Namespace(cluster).create()
    for each in (namespace, forbidden):
        each.publish()
        each.slice(engine.port, [f"{each.name}-1"])
    for plural, extra in (
        ("roles", {"kind": "Role", "rules": list(RULES)}),
        (
            "rolebindings",
            {
                "kind": "RoleBinding",
                "roleRef": {"apiGroup": group, "kind": "Role", "name": "gateway"},
                "subjects": [{"apiGroup": group, "kind": "User", "name": "confined"}],
            },
        ),
    ):
        cluster.apply(
            f"/apis/{group}/v1/namespaces/{namespace.name}/{plural}",
            {"apiVersion": f"{group}/v1", "metadata": {"name": "gateway"}, **extra},
        )
    gateway = await start("confined", namespaces=(namespace.name,))
    await until(lambda: gateway.fleet.snapshot.version > 0)
    assert await ask(gateway.data_address[1], namespace.name) == 200
    both = await start("confined", namespaces=(namespace.name, forbidden.name), first_lists_s=0.5)
    await until(lambda: both.fleet.snapshot.version > 0)
    assert await ask(both.data_address[1], namespace.name) == 200
    assert await ask(both.data_address[1], forbidden.name) == 404
    assert "not listed yet" in (both.discovery.error or "")
    nothing = await start("confined", first_lists_s=0.1)
    await until(lambda: ("configmaps", "ForbiddenError") in nothing.discovery.cluster().restarts)
    assert nothing.fleet.snapshot.version == -1
    assert (await admin(nothing.admin_address[1], "/readyz"))["status"] == "no routing snapshot yet"


@contextlib.contextmanager
def process(folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock_gateway"],
        env={
            **{name: text for name, text in os.environ.items() if not name.startswith("PENSTOCK_")},
            "PENSTOCK_GATEWAY_DATA_PORT": "0",
            "PENSTOCK_GATEWAY_ADMIN_PORT": "0",
            "PENSTOCK_GATEWAY_SPOOL_DIRECTORY": str(folder / "spool"),
            "PENSTOCK_GATEWAY_KUBERNETES__ENABLED": "true",
            "PENSTOCK_GATEWAY_KUBERNETES__ANONYMOUS_TENANT": "anyone",
            **environment,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def ports(process: subprocess.Popen[str]) -> tuple[int, int]:
    assert process.stderr is not None
    for line in process.stderr:
        if match := LISTENING.search(line):
            return int(match[1]), int(match[2])
    raise AssertionError("the gateway ended without listening")


async def test_a_gateway_that_starts_while_the_api_server_is_away_serves_what_it_remembers(
    tmp_path: Path, namespace: Namespace, cluster: ControlPlane, engine: Upstream
):
    namespace.publish()
    namespace.slice(engine.port, ["r-1"])
    cache = tmp_path / "spool" / "routing-cache.json"
    environment = {
        "PENSTOCK_GATEWAY_KUBERNETES__KUBECONFIG": str(cluster.kubeconfig("gateway")),
        "PENSTOCK_GATEWAY_KUBERNETES__CACHE_FILE": str(cache),
        "PENSTOCK_GATEWAY_KUBERNETES__RETRY_CAP_S": "0.5",
    }
    with process(tmp_path, **environment) as first:
        data, _ = await asyncio.to_thread(ports, first)
        await until(lambda: cache.exists() and "r-1" in cache.read_text())
        assert await ask(data, namespace.name) == 200
        assert cache.stat().st_mode & 0o077 == 0
    cluster.apiserver.stop(kill=True)
    try:
        with process(tmp_path, **environment) as second:
            data, admin_port = await asyncio.to_thread(ports, second)
            assert await ask(data, namespace.name) == 200
            assert "remembered" in (await admin(admin_port, "/readyz"))["routing"]
            assert "penstock_gateway_snapshot_confirmed 0.0" in await admin(admin_port, "/metrics")
            cluster.apiserver.start()
            await asyncio.to_thread(cluster.wait_until_ready)
            await asyncio.to_thread(namespace.delete_slice)
            for _ in range(1000):
                text = await admin(admin_port, "/metrics")
                if "penstock_gateway_snapshot_confirmed 1.0" in text and await ask(data, namespace.name) == 503:
                    break
                await asyncio.sleep(0.02)
            else:
                raise AssertionError("what was remembered was not replaced by what is")
            second.send_signal(signal.SIGTERM)
            _, log = await asyncio.to_thread(second.communicate)
            assert second.returncode == 0, log
            assert "Traceback" not in log
    finally:
        if cluster.apiserver.process is None:
            cluster.apiserver.start()
        await asyncio.to_thread(cluster.wait_until_ready)
