"""Pools at work on a control plane, with Ray Serve and KubeRay played, and a gateway that says what it may route to."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from penstock.control.status import ModelStatus
from penstock.cost.spool import SpoolWriter
from penstock.routing.load import GatewayLoad, ModelLoad
from penstock_kube.client import KubeClient
from penstock_kube.config import Access
from penstock_kube.errors import AlreadyExistsError, KubeError
from penstock_kube.resources import (
    ACCELERATOR_CLASSES,
    ENDPOINT_SLICES,
    MODELS,
    NETWORK_POLICIES,
    PODS,
    RAY_CLUSTERS,
    ROUTES,
    TENANTS,
    Key,
    Kind,
)
from penstock_operator.part import mirror
from penstock_operator.pool.controller import PoolController
from penstock_operator.pool.names import MANAGED_SELECTOR
from penstock_operator.pool.policy import POLICY_NAME
from penstock_operator.pool.policy_controller import build_policies
from penstock_operator.pool.slices import MANAGED_BY_LABEL
from penstock_operator.route.names import NameBook
from penstock_operator.settings import RayOptions, Settings
from penstock_operator.typed import TypedWorld
from penstock_operator.world import World
from tests.support.serve_api import own_address

NAMESPACES = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
SERVICE_ACCOUNTS = Kind("", "v1", "ServiceAccount", "serviceaccounts")
CLASS = "pool-cpu"


@dataclass
class Calls:
    """Counts calls to the API server by verb and kind, but for lists and watches of mirrors."""

    made: list[tuple[str, str]] = field(default_factory=list)

    def called(self, verb: str, plural: str, code: int, seconds: float) -> None:
        if verb not in {"list", "watch"}:
            self.made.append((verb, plural))


@dataclass
class Gateway:
    """Routes by what slices say, or, where it is told to, does not hear of them."""

    slices: Callable[[], list[Any]]
    deaf: set[str] = field(default_factory=set)
    """Replicas that it goes on routing to, whatever is published."""
    arrived: dict[str, int] = field(default_factory=dict)
    """Requests so far by model."""
    port: int = 0

    def routable(self) -> set[str]:
        ready = {
            endpoint["hostname"]
            for item in self.slices()
            for endpoint in item.get("endpoints") or ()
            if endpoint["conditions"]["ready"]
        }
        return ready | self.deaf

    async def load(self, request: web.Request) -> web.Response:
        models = tuple(ModelLoad(model=name, arrived=count) for name, count in self.arrived.items())
        load = GatewayLoad(
            process="gateway-1",
            at_s=time.time(),
            snapshot_version=1,
            models=models,
            routable=tuple(sorted(self.routable())),
        )
        return web.Response(body=msgspec.json.encode(load), content_type="application/json")


@dataclass
class Pools:
    """What a test works with."""

    kube: KubeClient
    world: World
    controller: PoolController
    calls: Calls
    gateway: Gateway
    namespace: str
    spool: Path

    async def policy(self) -> Any:
        """Read the pool's NetworkPolicy."""
        return await self.kube.get(NETWORK_POLICIES, self.namespace, POLICY_NAME)

    async def model(self, name: str, **spec: Any) -> dict[str, Any]:
        """Apply a Model; the spec is complete but for what is given."""
        metadata = {"namespace": self.namespace, "name": name}
        body = {"source": "hf://organisation/name", "accelerator": f"{CLASS}:1", **spec}
        return await self.kube.apply(MODELS, {"metadata": metadata, "spec": body})

    def view(self, name: str) -> ModelStatus | None:
        return self.world.view(Key(self.namespace, name))

    def ready(self, name: str) -> int:
        view = self.view(name)
        return 0 if view is None else view.ready

    def condition(self, name: str, kind: str) -> tuple[bool | None, str]:
        view = self.view(name)
        found = [] if view is None else [item for item in view.conditions if item.type == kind]
        return (found[0].status, found[0].reason) if found else (None, "")

    def slices(self) -> list[Any]:
        return self.world.slices.all(self.namespace)

    def endpoints(self) -> dict[str, bool]:
        """Whether each published replica may get new requests, by its id."""
        return {e["hostname"]: e["conditions"]["ready"] for item in self.slices() for e in item.get("endpoints") or ()}

    def clusters(self) -> list[Any]:
        return self.world.ray_clusters.all(self.namespace)

    def events(self) -> list[dict[str, Any]]:
        lines = [line for file in sorted(self.spool.glob("*.jsonl")) for line in file.read_bytes().splitlines()]
        return [msgspec.json.decode(line) for line in lines]


async def until(condition: Callable[[], Any], within_s: float = 30.0, what: Callable[[], Any] = lambda: "") -> None:
    """Wait for a condition to hold; `what` tells of the state when it does not."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not come to hold: {what()}"
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def pools(kubeconfig: Path, namespace: str, dashboard_url: str, spool: Path, **ray: Any) -> AsyncIterator[Pools]:
    """Run mirrors and the pool controller of one namespace."""
    calls = Calls()
    options = RayOptions(dashboard_url=dashboard_url, **ray)
    settings = Settings(namespace=namespace, watch_namespaces=(namespace,), ray=options, tick_s=0.1)
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(
            KubeClient(Access.find(kubeconfig), field_manager="penstock-operator", observer=calls)
        )
        await _ensure(kube, namespace)
        service = f"kubernetes.io/service-name={settings.gateway_service}"
        ours = f"{MANAGED_BY_LABEL}=penstock.dev"
        spaces = (namespace,)
        world = World(
            models=mirror(kube, MODELS, spaces),
            classes=mirror(kube, ACCELERATOR_CLASSES, spaces),
            routes=mirror(kube, ROUTES, spaces),
            tenants=mirror(kube, TENANTS, spaces),
            ray_clusters=mirror(kube, RAY_CLUSTERS, spaces),
            pods=mirror(kube, PODS, spaces, label_selector=MANAGED_SELECTOR),
            gateways=mirror(kube, ENDPOINT_SLICES, spaces, label_selector=service),
            slices=mirror(kube, ENDPOINT_SLICES, spaces, label_selector=ours),
        )
        typed = TypedWorld.of(world)
        gateway = Gateway(lambda: world.slices.all(namespace))
        await _serve(gateway, kube, namespace, settings.gateway_service, stack)
        writer = stack.enter_context(SpoolWriter(spool, "operator"))
        pool = PoolController(
            kube, world, typed=typed, names=NameBook(typed.models, typed.routes), settings=settings, spool=writer
        )
        stack.push_async_callback(pool.close)
        mirrors = (
            world.models, world.classes, world.routes, world.tenants,
            world.ray_clusters, world.pods, world.gateways, world.slices,
        )  # fmt: skip
        policies = build_policies(world, kube, settings)
        running = [reflector.run() for each in (*mirrors, *policies.mirrors) for reflector in each.reflectors]
        controllers = (pool.controller(), *policies.controllers)
        tasks = [asyncio.create_task(work) for work in (*running, *(each.run() for each in controllers))]
        try:
            yield Pools(kube, world, pool, calls, gateway, namespace, spool)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _ensure(kube: KubeClient, namespace: str) -> None:
    with contextlib.suppress(AlreadyExistsError):
        await kube.create(NAMESPACES, {"metadata": {"name": namespace}})
        # As a controller-manager would, for pods.
        await kube.create(SERVICE_ACCOUNTS, {"metadata": {"namespace": namespace, "name": "default"}})
    price = {"onDemandPerHour": "0.50", "spotPerHour": "0.20"}
    spec = {"vendor": "cpu", "resourceName": "cpu", "memory": "8Gi", "price": price}
    for _ in range(100):  # a definition that was just made is not served at once
        try:
            await kube.apply(ACCELERATOR_CLASSES, {"metadata": {"name": CLASS}, "spec": spec})
        except KubeError:
            await asyncio.sleep(0.1)
        else:
            return


async def _serve(
    gateway: Gateway, kube: KubeClient, namespace: str, service: str, stack: contextlib.AsyncExitStack
) -> None:
    app = web.Application()
    app.router.add_get("/load", gateway.load)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "0.0.0.0", 0).start()
    gateway.port = runner.addresses[0][1]
    metadata = {"namespace": namespace, "name": "gateway", "labels": {"kubernetes.io/service-name": service}}
    body = {
        "metadata": metadata,
        "addressType": "IPv4",
        "ports": [{"name": "admin", "port": gateway.port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [own_address()], "conditions": {"ready": True}}],
    }
    await kube.apply(ENDPOINT_SLICES, body)
