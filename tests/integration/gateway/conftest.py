"""A gateway on real sockets in the test's own loop, in front of scripted engines."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from penstock.cost.records import UsageRecord
from penstock.cost.spool import SpoolReader
from penstock.routing.keys import hash_key
from penstock.routing.snapshot import (
    CompiledRoute,
    CompiledTenant,
    Replica,
    ReplicaState,
    RoutingSnapshot,
    ServedModel,
    Task,
    VariantShare,
    encode_snapshot,
)
from penstock_gateway.gateway import Gateway
from penstock_gateway.settings import Settings
from tests.support.http import Client
from tests.support.upstream import Handler, Upstream, default_handler

PEPPER = b"pepper"
KEY = "sk-test"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that the gateway runs on."""
    return "asyncio", {"use_uvloop": True}


@dataclass
class Platform:
    """One gateway with its engines."""

    gateway: Gateway
    spool: Path
    upstreams: dict[str, Upstream] = field(default_factory=dict)
    states: dict[str, ReplicaState] = field(default_factory=dict)
    variants: dict[str, str] = field(default_factory=dict)
    shares: tuple[VariantShare, ...] = ()
    routes: tuple[CompiledRoute, ...] = ()
    tenants: tuple[CompiledTenant, ...] = (CompiledTenant(name="acme", key_hashes=(hash_key(PEPPER, KEY),)),)
    anonymous_tenant: str | None = None
    version: int = 0
    clients: list[Client] = field(default_factory=list)

    async def close(self) -> None:
        for client in self.clients:
            client.abort()
        await self.gateway.stop()
        for upstream in self.upstreams.values():
            await upstream.stop()

    def publish(self) -> None:
        """Give the gateway a snapshot of what there is."""
        self.version += 1
        self.gateway.settings.snapshot_file.write_bytes(encode_snapshot(self.snapshot()))
        self.gateway.discovery.look()

    def snapshot(self) -> RoutingSnapshot:
        return RoutingSnapshot(
            version=self.version,
            models=(
                ServedModel(name="m", created_s=5, adapters=("m-lora",)),
                ServedModel(name="org/other"),
                ServedModel(name="embed", task=Task.EMBED),
            ),
            replicas=tuple(
                Replica(
                    id=name,
                    model=name.split(".")[0],
                    variant=self.variants.get(name, f"{name.split('.')[0]}--cpu"),
                    address="127.0.0.1",
                    port=upstream.port,
                    state=self.states.get(name, ReplicaState.READY),
                )
                for name, upstream in self.upstreams.items()
            ),
            shares=self.shares,
            routes=self.routes,
            tenants=self.tenants,
            anonymous_tenant=self.anonymous_tenant,
        )

    async def add(self, name: str, handler: Handler = default_handler, *, variant: str | None = None) -> Upstream:
        """Start an engine named `model.replica` and tell the gateway."""
        if variant is not None:
            self.variants[name] = variant
        upstream = self.upstreams[name] = await Upstream(handler).start()
        self.publish()
        return upstream

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.data_address[1]}"

    async def connect(self) -> Client:
        client = await Client.connect(self.gateway.data_address[1])
        self.clients.append(client)
        return client

    def records(self) -> list[UsageRecord]:
        return [
            record
            for batch in SpoolReader(self.spool).read({})
            for record in batch.records
            if isinstance(record, UsageRecord)
        ]


PlatformFactory = Callable[..., Awaitable[Platform]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[PlatformFactory]:
    """Start gateways; keyword arguments are settings."""
    async with contextlib.AsyncExitStack() as stack:

        async def factory(*replicas: str, **settings: object) -> Platform:
            pepper = tmp_path / "pepper"
            pepper.write_bytes(PEPPER)
            spool = tmp_path / "spool"
            values = {
                "data_port": 0,
                "admin_port": 0,
                "snapshot_file": tmp_path / "snapshot.json",
                "pepper_file": pepper,
                "spool_directory": spool,
                "deadlines": {"sweep_s": 0.02},
                "retries": {"eject_min_s": 0.02, "eject_max_s": 0.1},
                "load_poll_s": 3600.0,
                **settings,
            }
            gateway = Gateway(Settings.model_validate(values))
            platform = Platform(gateway, spool)
            for name in replicas:
                platform.upstreams[name] = await Upstream().start()
            await gateway.start()
            stack.push_async_callback(platform.close)
            platform.publish()
            return platform

        yield factory


def body(**fields: object) -> bytes:
    """Return a chat request's body."""
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something holds; the test's own time-out is the bound."""
    while not condition():  # noqa: ASYNC110 - a plain attribute has no event
        await asyncio.sleep(0)
