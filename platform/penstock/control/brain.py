"""One model's scaling between two ticks: what it wants, why, and what the law has to remember."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from penstock.api.model import Model
from penstock.api.scaling import ScalingMode
from penstock.catalog.limits import sequences_asked
from penstock.control.replicas import Life, cold_start_s
from penstock.control.status import Condition
from penstock.scaling.decision import Decision, cause_of
from penstock.scaling.law import decide
from penstock.scaling.observe import LoadWindow
from penstock.scaling.policy import ScalingPolicy, prices_of, replica_bounds
from penstock.scaling.snapshot import Memory, ScalingSnapshot
from penstock.serve.applications import Application, spread
from penstock.serve.plan import DesiredApplication
from penstock.serve.status import ObservedApplication, ServeStatus, failure_reason

_COLD_STARTS = 5


@dataclass
class ModelState:
    """What the loop keeps of a model."""

    target: int
    since_s: float
    cause: str = "MinReplicas"
    """Why the target last moved."""
    memory: Memory = field(default_factory=Memory)
    snapshot: ScalingSnapshot | None = None
    decision: Decision | None = None
    conditions: tuple[Condition, ...] = ()
    died: str | None = None
    failed: tuple[tuple[Application, ...], str] | None = None
    """What was last tried to start and did not, with the engine's reason; None once a replica serves."""
    cold_starts_s: deque[float] = field(default_factory=lambda: deque(maxlen=_COLD_STARTS))

    @classmethod
    def first(cls, model: Model, now_s: float) -> ModelState:
        """Return the state of a model just seen."""
        return cls(target=first_target(model), since_s=now_s)

    def note_failure(
        self, applications: Sequence[Application], observed: Sequence[ObservedApplication], *, serves: bool
    ) -> str | None:
        """Return why the last try to start these applications failed, if one did and none has served since."""
        tried = tuple(msgspec.structs.replace(application, attempt=0) for application in applications)
        reasons = [failure_reason(app.message) for app in observed if app.has_failed]
        if serves or (self.failed is not None and self.failed[0] != tried):
            self.failed = None
        if reasons:
            self.failed = (tried, reasons[0])
        return None if self.failed is None else self.failed[1]

    def think(
        self, model: Model, window: LoadWindow, lives: Sequence[Life], applications: Sequence[Application], now_s: float
    ) -> bool:
        """Decide anew; return whether the target moved."""
        before = self.target
        if model.spec.scaling.mode is ScalingMode.EXTERNAL:
            self.target = first_target(model)
        policy = ScalingPolicy.from_model(model)
        self.snapshot = window.snapshot(
            model.name,
            now_s,
            replicas=[(life.id, life.phase, life.since_s) for life in lives],
            target=self.target,
            cold_start_s=cold_start_s(self.cold_starts_s),
            prices=prices_of(model, max((app.usd_per_hour for app in applications), default=Decimal(0))),
            memory=self.memory,
            fast_window_s=policy.panic_window_s,
            max_sequences=_sequences(model),
        )
        self.decision = decide(self.snapshot, policy)
        self.memory = self.decision.memory
        self.target = self.decision.target_after
        if self.target == before:
            return False
        self.cause = cause_of(self.decision)
        return True


def _sequences(model: Model) -> int | None:
    """Return the requests that a replica runs at once, when the model says so: engines do not tell."""
    asked = sequences_asked(model.spec.engine.args)
    return None if asked is None else asked * model.spec.parallelism.data


def first_target(model: Model) -> int:
    """Return the replicas a model begins with, or has in mode External: those it asks for that its bounds allow."""
    if model.spec.scaling.mode is ScalingMode.EXTERNAL:
        return sum(spread(model.spec.replicas, model.placements))
    least, most = replica_bounds(model)
    return min(max(model.spec.replicas, least), most)


def desired_applications(
    model: Model, applications: Sequence[Application], target: int, observed: ServeStatus
) -> list[DesiredApplication]:
    """Return a model's applications with their share of its replicas.

    One that is to have none and is not there is left out, for Serve would start one replica only to stop it.
    """
    counts = spread(target, model.placements)
    return [
        DesiredApplication(application=application, target=count)
        for application, count in zip(applications, counts, strict=True)
        if count > 0 or application.name in observed.applications
    ]


def as_it_runs(applications: Sequence[Application], observed: ServeStatus) -> list[DesiredApplication]:
    """Return what Serve has of a model that cannot be served as it is now wanted: it stays, with as many replicas.

    What Serve is building has no count yet, and keeps the one that it was given.
    """
    desired: list[DesiredApplication] = []
    for application in applications:
        app = observed.applications.get(application.name)
        if app is None or app.status == "DELETING":
            continue
        desired.append(DesiredApplication(application=application, target=app.asked, as_it_runs=True))
    return desired
