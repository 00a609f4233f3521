"""One look at everything: Serve's status, every gateway's counters, every ready engine's metrics, all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx2

from penstock.control.replicas import Life
from penstock.engines.base import EngineLoad
from penstock.engines.registry import get_engine
from penstock.local.gateway import GatewayAddress, read_load
from penstock.routing.load import GatewayLoad
from penstock.scaling.snapshot import ReplicaPhase
from penstock.serve.client import ServeClient
from penstock.serve.errors import ServeError
from penstock.serve.status import ServeStatus


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen at one moment; what did not answer is absent."""

    serve: ServeStatus | None
    serve_problem: str = ""
    gateway: GatewayLoad | None = None
    engines: dict[str, EngineLoad] = field(default_factory=dict)
    """By replica id."""


async def look(
    client: ServeClient, http: httpx2.AsyncClient, gateway: GatewayAddress, lives: Iterable[Life], *, loads: bool
) -> Sight:
    """Look at Serve, and at the loads as well when `loads`."""
    if not loads:
        serve, problem = await _serve_status(client)
        return Sight(serve=serve, serve_problem=problem)
    ready = [life for life in lives if life.phase is not ReplicaPhase.STARTING and life.port is not None]
    (serve, problem), load, engines = await asyncio.gather(
        _serve_status(client), read_load(http, gateway), asyncio.gather(*(_engine_load(http, life) for life in ready))
    )
    seen = {life.id: reading for life, reading in zip(ready, engines, strict=True) if reading is not None}
    return Sight(serve=serve, serve_problem=problem, gateway=load, engines=seen)


async def _serve_status(client: ServeClient) -> tuple[ServeStatus | None, str]:
    try:
        return await client.status(), ""
    except ServeError as error:
        return None, str(error)


async def _engine_load(http: httpx2.AsyncClient, life: Life) -> EngineLoad | None:
    engine = get_engine(life.application.engine)
    try:
        response = await http.get(f"http://{life.address}:{life.port}/{life.variant}{engine.metrics_path}")
        response.raise_for_status()
        return engine.parse_load(response.content)
    except (httpx2.HTTPError, ValueError):
        return None
