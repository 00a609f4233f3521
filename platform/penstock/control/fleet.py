"""What an operator keeps of the models and replicas of one Ray cluster from one look to the next.

It takes what was seen and says what changed; it makes no call and writes nothing. `penstock up` and the cluster's
operator run the same fleet, and differ in what they do with its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from penstock.api.model import Model
from penstock.control.brain import ModelState, as_it_runs, desired_applications
from penstock.control.conditions import Obstacle, Statement, judge, restate
from penstock.control.prepared import Prepared
from penstock.control.replicas import Life, Step, advance
from penstock.control.retries import Retries
from penstock.control.status import Condition, ConditionType
from penstock.cost.records import ReplicaEventKind
from penstock.engines.base import EngineLoad
from penstock.routing.load import GatewayLoad
from penstock.scaling.observe import LoadWindow
from penstock.scaling.snapshot import ReplicaPhase
from penstock.serve.applications import Application
from penstock.serve.plan import DesiredApplication
from penstock.serve.status import ServeStatus


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """What a status of Serve was news of."""

    steps: tuple[Step, ...]
    retried: tuple[str, ...]
    """Applications that Serve had given up on and that are now tried once more."""


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """A model's target that a decision has changed."""

    model: str
    before: int
    after: int
    cause: str
    reason: str


@dataclass
class Fleet:
    """Models by name, replicas by id. Two clusters that serve the same models may share `models` and `window`."""

    listen_host: str | None = None
    """The one address that every replica listens on, where that is not its node's."""
    waits: bool = False
    """Whether a replica may have to wait for a machine to come up, which costs nothing."""
    models: dict[str, ModelState] = field(default_factory=dict)
    window: LoadWindow = field(default_factory=LoadWindow)
    lives: dict[str, Life] = field(default_factory=dict)
    applications: dict[str, Application] = field(default_factory=dict)
    """Those that are wanted or have been, by name."""
    serve: ServeStatus | None = None
    """As last read; it stays when Serve does not answer."""
    retries: Retries = field(default_factory=Retries)
    _filled: frozenset[str] = frozenset()
    """Applications that have had as many replicas as they should: another start there replaces a lost one."""

    def admit(self, models: Iterable[Model], now_s: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Begin with models that are new and forget those that are not wanted any more; return the names of both."""
        wanted = {model.name: model for model in models}
        gone = tuple(self.models.keys() - wanted.keys())
        for name in gone:
            del self.models[name]
        new = tuple(name for name in wanted if name not in self.models)
        for name in new:
            self.models[name] = ModelState.first(wanted[name], now_s)
        return new, gone

    def prepared(self, items: Iterable[Prepared]) -> list[Prepared]:
        """Return what became of each model with its applications as they are to be tried now, and remember those."""
        tried = [
            msgspec.structs.replace(item, applications=tuple(map(self.retries.applied, item.applications)))
            for item in items
        ]
        self.applications.update({app.name: app for item in tried for app in item.applications})
        return tried

    def follow(self, serve: ServeStatus, now_s: float) -> Followed:
        """Bring the lives of replicas up to what Serve says."""
        self.serve = serve
        retried = tuple(name for name in self.retries.observe(serve, now_s) if name in self.applications)
        self.lives, steps = advance(
            self.lives,
            serve,
            self.applications,
            now_s,
            causes={name: state.cause for name, state in self.models.items()},
            filled=self._filled,
            listen_host=self.listen_host,
            waits=self.waits,
        )
        for step in steps:
            self._note(step)
        self._note_filled(serve)
        return Followed(steps=steps, retried=retried)

    def _note(self, step: Step) -> None:
        life, state = step.life, self.models.get(step.life.model)
        if step.kind is ReplicaEventKind.READY and state is not None:
            state.cold_starts_s.append(step.at_s - life.started_s)
        if step.kind is ReplicaEventKind.END:
            self.window.lost(life.id)
            if step.cause == "EngineDied" and state is not None:
                process = "" if life.pid is None else f" (pid {life.pid})"
                state.died = f"replica {life.id}{process} died; Serve starts another in its place"

    def _note_filled(self, serve: ServeStatus) -> None:
        live = {app.name: sum(r.is_live for r in app.replicas) for app in serve.applications.values()}
        full = {name for name, app in serve.applications.items() if app.target and live[name] >= app.target}
        same = {name for name, app in serve.applications.items() if app.target is not None and live[name] <= app.target}
        self._filled = (self._filled & same) | full

    def refill(self, applications: Iterable[str]) -> None:
        """Note that applications are to start replicas that replace no lost one."""
        self._filled -= frozenset(applications)

    def end_all(self, cause: str, now_s: float) -> tuple[Step, ...]:
        """Take every replica that is left for ended."""
        steps = tuple(
            Step(life=life, kind=ReplicaEventKind.END, at_s=now_s, cause=cause) for life in self.lives.values()
        )
        for step in steps:
            self._note(step)
        self.lives = {}
        return steps

    def take(self, gateways: Iterable[GatewayLoad], engines: Mapping[str, EngineLoad], now_s: float) -> None:
        """Take readings of gateways and, by replica, of engines; those of replicas that have ended are dropped."""
        for load in gateways:
            self.window.gateway(load, now_s)
        for replica, reading in engines.items():
            if replica in self.lives:
                self.window.engine(replica, reading, now_s)

    def decide(
        self, prepared: Iterable[Prepared], now_s: float, *, carriers: Mapping[str, frozenset[str]] | None = None
    ) -> list[Moved]:
        """Decide how many replicas each model is to have; return the targets that changed.

        Args:
            prepared: What became of each model.
            now_s: The time, Unix seconds.
            carriers: By model, the applications whose replicas count; all of them for a model that is not there.
        """
        moved = []
        for item in prepared:
            if item.obstacle is not None:
                continue
            state = self.models[item.model.name]
            before = state.target
            lives = self.lives_of(item.model.name, (carriers or {}).get(item.model.name))
            if state.think(item.model, self.window, lives, item.applications, now_s):
                self.refill(app.name for app in item.applications)
                reason = state.decision.reason if state.decision else ""
                moved.append(
                    Moved(model=item.model.name, before=before, after=state.target, cause=state.cause, reason=reason)
                )
        return moved

    def desired(self, prepared: Iterable[Prepared], serve: ServeStatus) -> list[DesiredApplication]:
        """Return the applications that Serve is to have. A model that has become impossible stays as it runs."""
        desired: list[DesiredApplication] = []
        for item in prepared:
            if item.obstacle is None:
                target = self.models[item.model.name].target
                desired += desired_applications(item.model, item.applications, target, serve)
            else:
                desired += as_it_runs(self.applications_of(item.model.name), serve)
        return desired

    def judge(
        self,
        item: Prepared,
        applications: Sequence[str],
        obstacle: Obstacle | None,
        now_s: float,
        *,
        carriers: frozenset[str] | None = None,
        amend: Callable[[tuple[Statement, ...]], tuple[Statement, ...]] | None = None,
    ) -> tuple[Condition, ...]:
        """State a model's conditions anew; return those whose status or reason changed.

        Args:
            item: What became of the model.
            applications: Names of its applications that are to serve, of all that Serve may have.
            obstacle: What is in its way.
            now_s: The time, Unix seconds.
            carriers: Applications whose replicas count; all of them when None.
            amend: Says what else there is to say of it.
        """
        state, lives = self.models[item.model.name], self.lives_of(item.model.name, carriers)
        found = {} if self.serve is None else self.serve.applications
        observed = [found[name] for name in applications if name in found]
        serves = any(life.phase is ReplicaPhase.READY for life in lives)
        failed = state.note_failure(item.applications, observed, serves=serves)
        said = judge(state.target, lives, observed, obstacle, died=state.died, failed=failed, decision=state.decision)
        if amend is not None:
            said = amend(said)
        known = {condition.type: condition for condition in state.conditions}
        state.conditions = restate(said, state.conditions, now_s)
        changed = []
        for condition in state.conditions:
            last = known.get(condition.type)
            if last is None or (last.status, last.reason) != (condition.status, condition.reason):
                changed.append(condition)
            if condition.type is ConditionType.DEGRADED and not condition.status:
                state.died = None
        return tuple(changed)

    def lives_of(self, model: str, applications: frozenset[str] | None = None) -> list[Life]:
        """Return a model's replicas, or those of some of its applications, the oldest first."""
        own = (
            life
            for life in self.lives.values()
            if life.model == model and (applications is None or life.variant in applications)
        )
        return sorted(own, key=lambda life: life.started_s)

    def applications_of(self, model: str) -> list[Application]:
        """Return every application that a model has or had."""
        return [app for app in self.applications.values() if app.model == model]
