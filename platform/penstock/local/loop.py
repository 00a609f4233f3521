"""The operator's loop on one machine: observe, follow replicas, decide, plan, execute, tell. Twice a second.

Each tick starts from what is observed, so a tick that fails leaves nothing half done that the next does not see. A
model that cannot be served says so in its conditions and is left out of the rest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2
import msgspec

from penstock.api.manifest import Manifest
from penstock.api.model import Model
from penstock.control.brain import ModelState, as_it_runs, desired_applications
from penstock.control.conditions import Obstacle, judge, restate
from penstock.control.endpoints import compile_snapshot
from penstock.control.prepared import Prepared, told_apart
from penstock.control.reconciler import Reconciler
from penstock.control.replicas import Life, Step, advance, event
from penstock.control.retries import Retries
from penstock.control.status import ConditionType, PlatformStatus
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
from penstock.scaling.observe import LoadWindow
from penstock.scaling.snapshot import ReplicaPhase
from penstock.serve.applications import Application, ServeOptions
from penstock.serve.client import ServeClient
from penstock.serve.errors import ServeError
from penstock.serve.plan import DesiredApplication, whole_config
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
    models: dict[str, ModelState] = field(default_factory=dict)
    lives: dict[str, Life] = field(default_factory=dict)
    snapshot: RoutingSnapshot = field(default_factory=RoutingSnapshot)
    status: PlatformStatus | None = None
    serve_status: ServeStatus | None = None
    _applications: dict[str, Application] = field(default_factory=dict)
    _filled: frozenset[str] = frozenset()
    _sight: Sight = field(default_factory=lambda: Sight(serve=None))
    _turn: int = 0
    _tenants: tuple[CompiledTenant, ...] = ()
    _said: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Make the parts that call back."""
        self.reconciler = Reconciler(self.client, self.serve_options, self._route_away)
        self.meter = Meter(self.spool.append, clock=self.clock)
        self.retries = Retries()
        self.window = LoadWindow()
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
        self._sight = await look(self.client, self.http, self.gateway, self.lives.values(), loads=loads)
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
        prepared, clashes = told_apart(self._prepare_one(model, manifest) for model in manifest.models)
        names = {item.model.name for item in prepared}
        for gone in self.models.keys() - names:
            del self.models[gone]
            self.timeline.write(now_s, "Manifest", gone, "no longer in the files: its replicas drain")
        for item in prepared:
            if item.model.name not in self.models:
                self.models[item.model.name] = ModelState.first(item.model, now_s)
                self.timeline.write(now_s, "Manifest", item.model.name, "wanted")
        self._applications.update({app.name: app for item in prepared for app in item.applications})
        self._tenants, problems = compile_tenants(manifest, self.state.pepper.read_bytes())
        said = (*filter(None, [self.watch.problem]), *clashes, *problems, *dangling(manifest))
        for text in said:
            if text not in self._said:
                self.timeline.write(now_s, "Manifest", None, text)
        self._said = said
        return prepared

    def _prepare_one(self, model: Model, manifest: Manifest) -> Prepared:
        item = self.preparer.prepare(model, manifest)
        applications = tuple(self.retries.applied(app) for app in item.applications)
        return msgspec.structs.replace(item, applications=applications)

    def _follow(self, serve: ServeStatus, now_s: float) -> None:
        """Bring the lives of replicas up to what Serve says, and write each step down."""
        self.serve_status = serve
        for name in self.retries.observe(serve, now_s):
            if name in self._applications:
                self.timeline.write(now_s, "Deploy", self._applications[name].model, f"{name} is tried once more")
        causes = {name: state.cause for name, state in self.models.items()}
        self.lives, steps = advance(
            self.lives,
            serve,
            self._applications,
            now_s,
            causes=causes,
            filled=self._filled,
            listen_host=self.serve_options.http_host,
        )
        for step in steps:
            self._write_step(step)
        for life in self.lives.values():
            if life.pid is not None:
                self.meter.watch(life.id, life.pid, str(life.application.usd_per_hour))
        self.meter.tick()
        live = {app.name: sum(r.is_live for r in app.replicas) for app in serve.applications.values()}
        full = {name for name, app in serve.applications.items() if app.target and live[name] >= app.target}
        same = {name for name, app in serve.applications.items() if app.target is not None and live[name] <= app.target}
        self._filled = (self._filled & same) | full

    def _write_step(self, step: Step) -> None:
        life = step.life
        self.spool.append(event(step, str(life.application.usd_per_hour)))
        self.timeline.write(
            step.at_s, "Replica", life.model, f"{life.id} {step.kind.value} on {life.variant}: {step.cause}"
        )
        state = self.models.get(life.model)
        if step.kind is ReplicaEventKind.READY and state is not None:
            state.cold_starts_s.append(step.at_s - life.started_s)
        if step.kind is ReplicaEventKind.END:
            self.window.lost(life.id)
            self.teller.forget(life.id)
            if step.cause == "EngineDied" and state is not None:
                state.died = f"replica {life.id} (pid {life.pid}) died; Serve starts another in its place"

    async def leave(self, within_s: float) -> None:
        """Have Serve stop every replica, and follow each to its end for as long as `within_s`.

        Raises:
            ServeError: Serve does not answer.
        """
        for state in self.models.values():
            state.cause = "Down"
        await self.client.put(whole_config((), ServeStatus(started=True, applications={}), self.serve_options))
        deadline_s = time.monotonic() + within_s
        while self.lives and time.monotonic() < deadline_s:
            await asyncio.sleep(_FOLLOW_S)
            self._follow(await self.client.status(), self.clock())

    def end_lives(self, cause: str) -> None:
        """Write the end of every replica that is left: the platform goes down."""
        now_s = self.clock()
        for life in self.lives.values():
            self._write_step(Step(life=life, kind=ReplicaEventKind.END, at_s=now_s, cause=cause))
        self.lives = {}

    def _take_loads(self, sight: Sight, now_s: float) -> None:
        if sight.gateway is not None:
            self.window.gateway(sight.gateway, now_s)
        for replica, reading in sight.engines.items():
            if replica not in self.lives:
                continue  # it ended while it was being read: what is kept of it has been forgotten
            self.window.engine(replica, reading, now_s)
            self.teller.take(replica, reading, now_s)

    def _decide(self, prepared: list[Prepared], now_s: float) -> None:
        for item in prepared:
            if item.obstacle is not None:
                continue
            name = item.model.name
            state, lives = self.models[name], self._lives_of(name)
            before = state.target
            moved = state.think(item.model, self.window, lives, item.applications, now_s)
            if state.decision is not None:
                self.decisions.append(state.decision)
            if moved:
                self._filled -= {app.name for app in item.applications}
                reason = state.decision.reason if state.decision else ""
                self.timeline.write(now_s, "Target", name, f"{before} -> {state.target} {state.cause}: {reason}")

    def _publish(self, leaving: frozenset[str]) -> None:
        """Write the routing snapshot if anything in it changed."""
        snapshot = compile_snapshot(
            self.watch.manifest,
            self.lives.values(),
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
            for name in await self.reconciler.reconcile(self._desired(prepared, serve), serve):
                self._filled -= {name}
                app = self._applications[name]
                self.timeline.write(self.clock(), "Deploy", app.model, f"{name} revision {app.revision} sent to Serve")
        except ServeError as error:
            logger.warning("Ray Serve did not take a call: %s", error)

    def _desired(self, prepared: list[Prepared], serve: ServeStatus) -> list[DesiredApplication]:
        desired: list[DesiredApplication] = []
        for item in prepared:
            target = self.models[item.model.name].target
            if item.obstacle is None:
                desired += desired_applications(item.model, item.applications, target, serve)
            else:
                # A model that runs and is edited into something impossible keeps running as it was.
                running = [app for app in self._applications.values() if app.model == item.model.name]
                desired += as_it_runs(running, serve)
        return desired

    def _judge(self, prepared: list[Prepared], now_s: float) -> None:
        serve = self.serve_status
        for item in prepared:
            name, state = item.model.name, self.models[item.model.name]
            observed = [
                serve.applications[app.name] for app in item.applications if serve and app.name in serve.applications
            ]
            lives = self._lives_of(name)
            obstacle = self._obstacle(item)
            serves = any(life.phase is ReplicaPhase.READY for life in lives)
            failed = state.note_failure(item.applications, observed, serves=serves)
            said = judge(
                state.target, lives, observed, obstacle, died=state.died, failed=failed, decision=state.decision
            )
            conditions = restate(said, state.conditions, now_s)
            known = {condition.type: condition for condition in state.conditions}
            for condition in conditions:
                last = known.get(condition.type)
                if last is None or (last.status, last.reason) != (condition.status, condition.reason):
                    text = f"{condition.type.value}={condition.status} {condition.reason}: {condition.message}"
                    self.timeline.write(now_s, "Condition", name, text.rstrip(": "))
                if condition.type is ConditionType.DEGRADED and not condition.status:
                    state.died = None
            state.conditions = conditions

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
            self.models,
            self.lives,
            self.reconciler.leaving,
            now_s=now_s,
            message="; ".join(filter(None, (*self._said, unreachable))),
            snapshot_version=self.snapshot.version,
        )

    def _lives_of(self, model: str) -> list[Life]:
        return sorted((life for life in self.lives.values() if life.model == model), key=lambda life: life.started_s)
