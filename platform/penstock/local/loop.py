"""The operator's loop on one machine: observe, follow replicas, decide, plan, execute, tell. Twice a second.

Each tick starts from what is observed, so a tick that fails leaves nothing half done that the next does not see. A
model that cannot be served says so in its conditions and is left out of the rest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import httpx2

from penstock.control.conditions import Obstacle
from penstock.control.endpoints import compile_snapshot
from penstock.control.fleet import Fleet
from penstock.control.prepared import Prepared, told_apart
from penstock.control.reconciler import Reconciler
from penstock.control.replicas import Step, event
from penstock.control.status import PlatformStatus
from penstock.control.tenants import compile_tenants, dangling
from penstock.cost.records import ReplicaEventKind
from penstock.cost.spool import SpoolWriter
from penstock.local.accounts import Accounts
from penstock.local.gateway import GatewayAddress, wait_for_version
from penstock.local.journal import Timeline
from penstock.local.manifests import ManifestWatch
from penstock.local.meter import Meter
from penstock.local.observe import Sight, look
from penstock.local.prepare import Preparer
from penstock.local.state import StateDirectory, write_atomically
from penstock.local.teller import Teller
from penstock.routing.snapshot import CompiledTenant, RoutingSnapshot, encode_snapshot
from penstock.scaling.log import DecisionLog
from penstock.serve.applications import ServeOptions
from penstock.serve.client import ServeClient
from penstock.serve.errors import ServeError
from penstock.serve.plan import whole_config
from penstock.serve.status import ServeStatus

logger = logging.getLogger(__name__)

TICK_S = 0.5
_FOLLOW_S = 0.1
"""Pause between two looks at replicas that end, when nothing else is left to do."""
_LOADS_EVERY = 2
"""Ticks between two readings of loads and two decisions: once a second."""
_ROUTE_AWAY_S = 3.0
"""How long a scale-down waits for the gateway: it looks at its snapshot file five times a second."""


@dataclass
class Operator:
    """The loop and all that it keeps between ticks."""

    state: StateDirectory
    client: ServeClient
    http: httpx2.AsyncClient
    gateway: GatewayAddress
    watch: ManifestWatch
    preparer: Preparer
    accounts: Accounts
    serve_options: ServeOptions
    base: PlatformStatus
    """What of the status never changes."""
    timeline: Timeline
    spool: SpoolWriter
    clock: Callable[[], float] = time.time
    snapshot: RoutingSnapshot = field(default_factory=RoutingSnapshot)
    status: PlatformStatus | None = None
    _sight: Sight = field(default_factory=lambda: Sight(serve=None))
    _turn: int = 0
    _tenants: tuple[CompiledTenant, ...] = ()
    _said: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Make the parts that call back."""
        self.fleet = Fleet(listen_host=self.serve_options.http_host)
        self.reconciler = Reconciler(self.client, self.serve_options, self._route_away)
        self.meter = Meter(self.spool.append, clock=self.clock)
        self.decisions = DecisionLog(self.state.decisions)
        self.teller = Teller(self.state.status, self.base, self.accounts)

    async def run(self, stop: asyncio.Event) -> None:
        """Tick until `stop`."""
        while not stop.is_set():
            began_s = time.monotonic()
            try:
                await self.tick()
            except Exception:  # the task's boundary: a fault in one tick must not end the platform
                logger.exception("a tick of the operator failed")
            pause_s = max(0.05, TICK_S - (time.monotonic() - began_s))
            try:
                await asyncio.wait_for(stop.wait(), pause_s)
            except TimeoutError:
                continue

    async def tick(self) -> None:
        """Do one round."""
        loads = self._turn % _LOADS_EVERY == 0
        self._turn += 1
        self._sight = await look(self.client, self.http, self.gateway, self.fleet.lives.values(), loads=loads)
        now_s = self.clock()
        prepared = self._prepare(now_s)
        if self._sight.serve is not None:
            self._follow(self._sight.serve, now_s)
        if loads:
            self._take_loads(self._sight, now_s)
            self._decide(prepared, now_s)
        self._publish(self.reconciler.leaving)
        if self._sight.serve is not None:
            await self._reconcile(prepared, self._sight.serve)
        self._judge(prepared, self.clock())
        self._tell(now_s)

    def _prepare(self, now_s: float) -> list[Prepared]:
        """Return what became of each model in the files, and forget those that are not there any more."""
        manifest = self.watch.manifest
        prepared, clashes = told_apart(self.preparer.prepare(model, manifest) for model in manifest.models)
        new, gone = self.fleet.admit((item.model for item in prepared), now_s)
        for name in gone:
            self.timeline.write(now_s, "Manifest", name, "no longer in the files: its replicas drain")
        for name in new:
            self.timeline.write(now_s, "Manifest", name, "wanted")
        self._tenants, problems = compile_tenants(manifest, self.state.pepper.read_bytes())
        said = (*filter(None, [self.watch.problem]), *clashes, *problems, *dangling(manifest))
        for text in said:
            if text not in self._said:
                self.timeline.write(now_s, "Manifest", None, text)
        self._said = said
        return self.fleet.prepared(prepared)

    def _follow(self, serve: ServeStatus, now_s: float) -> None:
        """Bring the lives of replicas up to what Serve says, and write each step down."""
        followed = self.fleet.follow(serve, now_s)
        for name in followed.retried:
            self.timeline.write(now_s, "Deploy", self.fleet.applications[name].model, f"{name} is tried once more")
        self._write_steps(followed.steps)
        for life in self.fleet.lives.values():
            if life.pid is not None:
                self.meter.watch(life.id, life.pid, str(life.application.usd_per_hour))
        self.meter.tick()

    def _write_steps(self, steps: Iterable[Step]) -> None:
        for step in steps:
            life = step.life
            self.spool.append(event(step, str(life.application.usd_per_hour)))
            text = f"{life.id} {step.kind.value} on {life.variant}: {step.cause}"
            self.timeline.write(step.at_s, "Replica", life.model, text)
            if step.kind is ReplicaEventKind.END:
                self.teller.forget(life.id)

    async def leave(self, within_s: float) -> None:
        """Have Serve stop every replica, and follow each to its end for as long as `within_s`.

        Raises:
            ServeError: Serve does not answer.
        """
        for state in self.fleet.models.values():
            state.cause = "Down"
        await self.client.put(whole_config((), ServeStatus(started=True, applications={}), self.serve_options))
        deadline_s = time.monotonic() + within_s
        while self.fleet.lives and time.monotonic() < deadline_s:
            await asyncio.sleep(_FOLLOW_S)
            self._follow(await self.client.status(), self.clock())

    def end_lives(self, cause: str) -> None:
        """Write the end of every replica that is left: the platform goes down."""
        self._write_steps(self.fleet.end_all(cause, self.clock()))

    def _take_loads(self, sight: Sight, now_s: float) -> None:
        self.fleet.take([] if sight.gateway is None else [sight.gateway], sight.engines, now_s)
        for replica, reading in sight.engines.items():
            if replica in self.fleet.lives:  # else it ended while it was being read
                self.teller.take(replica, reading, now_s)

    def _decide(self, prepared: list[Prepared], now_s: float) -> None:
        for moved in self.fleet.decide(prepared, now_s):
            text = f"{moved.before} -> {moved.after} {moved.cause}: {moved.reason}"
            self.timeline.write(now_s, "Target", moved.model, text)
        for state in self.fleet.models.values():
            if state.decision is not None and state.decision.at_s == now_s:
                self.decisions.append(state.decision)

    def _publish(self, leaving: frozenset[str]) -> None:
        """Write the routing snapshot if anything in it changed."""
        snapshot = compile_snapshot(
            self.watch.manifest,
            self.fleet.lives.values(),
            self._tenants,
            self.snapshot,
            leaving=leaving,
            created_s=int(self.base.started_s),
        )
        if snapshot is not self.snapshot:
            self.snapshot = snapshot
            write_atomically(self.state.snapshot, encode_snapshot(snapshot))

    async def _route_away(self, victims: frozenset[str]) -> None:
        self._publish(self.reconciler.leaving | victims)
        if not await wait_for_version(self.http, self.gateway, self.snapshot.version, within_s=_ROUTE_AWAY_S):
            logger.warning("the gateway has not taken snapshot %d yet; going on", self.snapshot.version)

    async def _reconcile(self, prepared: list[Prepared], serve: ServeStatus) -> None:
        try:
            sent = await self.reconciler.reconcile(self.fleet.desired(prepared, serve), serve)
        except ServeError as error:
            logger.warning("Ray Serve did not take a call: %s", error)
            return
        self.fleet.refill(sent)
        for name in sent:
            app = self.fleet.applications[name]
            self.timeline.write(self.clock(), "Deploy", app.model, f"{name} revision {app.revision} sent to Serve")

    def _judge(self, prepared: list[Prepared], now_s: float) -> None:
        for item in prepared:
            names = [app.name for app in item.applications]
            for condition in self.fleet.judge(item, names, self._obstacle(item), now_s):
                text = f"{condition.type.value}={condition.status} {condition.reason}: {condition.message}"
                self.timeline.write(now_s, "Condition", item.model.name, text.rstrip(": "))

    def _obstacle(self, item: Prepared) -> Obstacle | None:
        if item.obstacle is not None:
            return item.obstacle
        for app in item.applications:
            if (text := self.reconciler.refusal(app.name)) is not None:
                return Obstacle(
                    reason="Refused", message=f"Ray Serve refused {app.name}: {text}; mend the model's file"
                )
        return None

    def _tell(self, now_s: float) -> None:
        unreachable = f"Ray Serve does not answer: {self._sight.serve_problem}" if self._sight.serve is None else ""
        self.status = self.teller.tell(
            self.fleet.models,
            self.fleet.lives,
            self.reconciler.leaving,
            now_s=now_s,
            message="; ".join(filter(None, (*self._said, unreachable))),
            snapshot_version=self.snapshot.version,
        )
