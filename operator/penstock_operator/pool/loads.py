"""Readings of every gateway process and every engine, taken beside the pools so that a slow pod holds nobody up."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import aiohttp
import msgspec

from penstock.control.replicas import Life
from penstock.engines.base import Engine, EngineLoad
from penstock.engines.registry import get_engine
from penstock.routing.load import GatewayLoad
from penstock.scaling.snapshot import ReplicaPhase
from penstock_kube.resources import Object

_AT_ONCE: Final = 64
"""Readings under way at a time: each is small, and a thousand at once would be late by their own crowd."""
_MOST_A_SECOND: Final = 200
"""Engines read in a second, for as long as that is often enough for each: a page of vLLM's is tens of kilobytes."""
_LONGEST_S: Final = 5.0
"""Longest time from one reading of an engine to the next: scaling holds on what is older than ten seconds."""
_QUIET_S: Final = 4.0
"""How often an engine is read of whose model no gateway has a request: its figures hardly change."""
_TIMEOUT_S: Final = aiohttp.ClientTimeout(total=2.0)
_KEEPALIVE_S: Final = 2.0
"""Below the five seconds after which engines close idle connections, and short enough to keep open files few."""
_POLL_S: Final = 0.1

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer of an engine."""

    load: EngineLoad
    at_s: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class _Target:
    model: str
    url: str
    engine: Engine


class Loads:
    """The newest readings, taken by `run`: every gateway once a period, and every engine too unless there are many.

    Pools say which replicas there are.
    """

    def __init__(
        self,
        gateway_slices: Callable[[], Iterable[Object]],
        *,
        period_s: float,
        clock: Callable[[], float],
        token_file: Path | None = None,
    ) -> None:
        """Make readings that have not begun.

        Args:
            gateway_slices: Returns the EndpointSlices of the gateways' admin port.
            period_s: From one round to the next. A round reads the engines that were not read for longest.
            clock: Returns Unix seconds.
            token_file: Bearer token of the gateways' admin port, read anew at each round: Secrets are rotated.
        """
        self.engines: dict[str, Reading] = {}
        """By replica."""
        self.gateways: dict[str, tuple[GatewayLoad, float]] = {}
        """Last report of each gateway process, and when it came, by process."""
        self.busy: frozenset[str] = frozenset()
        """Models of which a gateway has requests, or has had some since the round before."""
        self._gateway_slices = gateway_slices
        self._period_s = period_s
        self._clock = clock
        self._token_file = token_file
        self._targets: dict[str, dict[str, _Target]] = {}
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._tried_s: dict[str, float] = {}
        self._session: aiohttp.ClientSession | None = None

    def follow(self, pool: str, lives: Iterable[Life]) -> None:
        """Read the engines of these replicas from now on, and of no other of this pool."""
        targets: dict[str, _Target] = {}
        for life in lives:
            if life.phase is ReplicaPhase.STARTING or life.address is None or life.port is None:
                continue
            engine = get_engine(life.application.engine)
            host = f"[{life.address}]" if ":" in life.address else life.address
            targets[life.id] = _Target(
                life.model, f"http://{host}:{life.port}/{life.variant}{engine.metrics_path}", engine
            )
        for gone in self._targets.get(pool, {}).keys() - targets.keys():
            self.engines.pop(gone, None)
            self._tried_s.pop(gone, None)
        self._targets[pool] = targets
        if not targets:
            del self._targets[pool]

    def reports(self, models: Iterable[str], since_s: float) -> list[tuple[GatewayLoad, float]]:
        """Return the reports that came after `since_s`, with what they say of these models only."""
        wanted = frozenset(models)
        return [
            (msgspec.structs.replace(load, models=tuple(item for item in load.models if item.model in wanted)), at_s)
            for load, at_s in self.gateways.values()
            if at_s > since_s
        ]

    def readings(self, replicas: Iterable[str], since_s: float) -> dict[str, Reading]:
        """Return the readings of these replicas that were taken after `since_s`."""
        found = ((replica, self.engines.get(replica)) for replica in replicas)
        return {replica: reading for replica, reading in found if reading is not None and reading.at_s > since_s}

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            began_s = asyncio.get_running_loop().time()
            try:
                await self.round()
            except Exception:  # noqa: BLE001 - a fault in one round must not blind the operator for good
                _log.exception("a round of readings failed")
            await asyncio.sleep(max(0.05, self._period_s - (asyncio.get_running_loop().time() - began_s)))

    async def round(self) -> None:
        """Read every gateway, and the engines whose turn it is."""
        before = {name: load for name, (load, _) in self.gateways.items()}
        engines = asyncio.gather(*(self._read_engine(replica, target) for replica, target in self._due()))
        await asyncio.gather(self.read_gateways(), engines)
        self.busy = frozenset(
            model for load, _ in self.gateways.values() for model in _busy(load, before.get(load.process))
        )

    def _due(self) -> list[tuple[str, _Target]]:
        """Return the engines to read in this round, those that were not read for longest."""
        quiet_s = self._clock() - _QUIET_S
        targets = {
            replica: target
            for pool in self._targets.values()
            for replica, target in pool.items()
            if target.model in self.busy or self._tried_s.get(replica, 0.0) <= quiet_s or self._works(replica)
        }
        share = max(_MOST_A_SECOND * self._period_s, len(targets) * self._period_s / _LONGEST_S)
        due = sorted(targets, key=lambda replica: self._tried_s.get(replica, 0.0))[: math.ceil(share)]
        now_s = self._clock()
        self._tried_s.update(dict.fromkeys(due, now_s))
        return [(replica, targets[replica]) for replica in due]

    def _works(self, replica: str) -> bool:
        last = self.engines.get(replica)
        return last is None or last.load.running + last.load.waiting > 0

    async def read_gateways(self) -> bool:
        """Read every gateway; return whether each answered."""
        urls, headers = self._gateway_urls(), self._headers()
        loads = await asyncio.gather(*(self._read_gateway(url, headers) for url in urls))
        now_s = self._clock()
        for load in loads:
            if load is not None:
                self.gateways[load.process] = (load, now_s)
        self.gateways = {name: seen for name, seen in self.gateways.items() if now_s - seen[1] < 60}
        return all(load is not None for load in loads)

    async def wait_unroutable(self, replicas: frozenset[str], within_s: float) -> bool:
        """Wait until no gateway gives anything new to these replicas; False when one may still, or does not answer."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        while True:
            asked_s = self._clock()
            heard = await self.read_gateways()
            reports = [load for load, at_s in self.gateways.values() if at_s >= asked_s]
            if heard and not any(replicas.intersection(load.routable or ()) for load in reports):
                return True
            if loop.time() >= deadline_s:
                return False
            await asyncio.sleep(_POLL_S)

    async def close(self) -> None:
        """Close idle connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _gateway_urls(self) -> list[str]:
        urls = []
        for item in self._gateway_slices():
            ports = [port["port"] for port in item.get("ports") or () if port.get("port")]
            for endpoint in item.get("endpoints") or ():
                address = endpoint["addresses"][0]
                host = f"[{address}]" if ":" in address else address
                urls += [f"http://{host}:{port}/load" for port in ports[:1]]
        return sorted(set(urls))

    def _headers(self) -> Mapping[str, str]:
        if self._token_file is None:
            return {}
        try:
            return {"authorization": f"Bearer {self._token_file.read_text().strip()}"}
        except OSError as error:
            _log.warning("the gateways' admin token cannot be read: %s", error)
            return {}

    async def _read_gateway(self, url: str, headers: Mapping[str, str]) -> GatewayLoad | None:
        return await self._read(url, lambda body: msgspec.json.decode(body, type=GatewayLoad), headers)

    async def _read_engine(self, replica: str, target: _Target) -> None:
        load = await self._read(target.url, target.engine.parse_load)
        if load is not None and any(replica in pool for pool in self._targets.values()):
            self.engines[replica] = Reading(load, self._clock())

    async def _read(self, url: str, parse: Callable[[bytes], T], headers: Mapping[str, str] | None = None) -> T | None:
        if self._session is None:
            # Pods are reached directly: without trust_env, no proxy that the environment names is asked.
            self._session = aiohttp.ClientSession(
                timeout=_TIMEOUT_S,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        async with self._gate:
            try:
                async with self._session.get(url, headers=headers, allow_redirects=False) as answer:
                    answer.raise_for_status()
                    return parse(await answer.read())
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, ValueError) as error:
                _log.debug("%s: %s %s", url, type(error).__name__, error)
                return None


def _busy(load: GatewayLoad, before: GatewayLoad | None) -> set[str]:
    """Return the models of which a gateway has requests, or has had some since an earlier report."""
    arrived = {(item.model, item.variant): item.arrived for item in before.models} if before is not None else {}
    return {
        item.model
        for item in load.models
        if item.in_flight or item.waiting or item.arrived != arrived.get((item.model, item.variant), 0)
    }
