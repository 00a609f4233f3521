"""The life of each replica as Serve reports it: from one status to the next, which steps were taken and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from penstock.cost.records import ReplicaEvent, ReplicaEventKind
from penstock.scaling.snapshot import ReplicaPhase
from penstock.serve.applications import Application
from penstock.serve.status import ObservedApplication, ObservedReplica, ServeStatus


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One replica that has not ended."""

    id: str
    model: str
    variant: str
    phase: ReplicaPhase
    since_s: float
    """When it entered the phase."""
    started_s: float
    """When Serve began to start it."""
    paid_s: float | None = None
    """From when on it is paid for; None while it waits for a machine."""
    pid: int | None = None
    address: str | None = None
    port: int | None = None
    ready_s: float | None = None
    application: Application
    """As it was when the replica started: its price class is in there."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One replica came, became ready, began to drain, or ended.

    One that ends while it waits for a machine has an end and no start: it cost nothing.
    """

    life: Life
    kind: ReplicaEventKind
    at_s: float
    cause: str


def advance(
    lives: Mapping[str, Life],
    observed: ServeStatus,
    applications: Mapping[str, Application],
    now_s: float,
    *,
    causes: Mapping[str, str] | None = None,
    filled: frozenset[str] = frozenset(),
    listen_host: str | None = None,
    waits: bool = False,
) -> tuple[dict[str, Life], tuple[Step, ...]]:
    """Return the lives after a status, and the steps that led there, in order of time within each replica.

    Args:
        lives: What was known, by replica id.
        observed: The status just read.
        applications: The applications that the operator wants or wanted, by name.
        now_s: When it was read, Unix seconds.
        causes: Why each model's target last moved, by model: the cause of a start or a planned drain.
        filled: Variants that have had as many replicas as they should: another start there replaces a lost one.
        listen_host: The one address that every replica listens on, where that is not its node's.
        waits: Whether a replica may have to wait for a machine to come up.
    """
    if not observed.started:
        # Ray's dashboard answers so as well when it cannot ask for Serve's controller just then; replicas that are
        # really gone are missing from the answer of the next controller.
        return dict(lives), ()
    causes = causes or {}
    after: dict[str, Life] = {}
    steps: list[Step] = []
    for name, app in observed.applications.items():
        for replica in app.replicas:
            before = lives.get(replica.id)
            application = before.application if before else applications.get(name)
            if application is not None:
                moved = causes.get(application.model, "MinReplicas")
                cause = "Recovery" if before is None and name in filled else moved
                life, taken = _advance_one(
                    before, _at(replica, listen_host), app, application, now_s, cause, waits=waits
                )
                after[life.id] = life
                steps.extend(taken)
    for life in lives.values():
        if life.id in after:
            continue
        variant = observed.applications.get(life.variant)
        if variant is not None and variant.deployment is None and not variant.has_failed:
            # Serve lists no replicas while it builds an application, though those of the last revision run on.
            after[life.id] = life
        else:
            steps.append(_end(life, now_s, causes, removed=variant is None))
    return after, tuple(steps)


def event(step: Step, usd_per_hour: str) -> ReplicaEvent:
    """Return the step as a record for the spool."""
    life = step.life
    return ReplicaEvent(
        replica=life.id,
        kind=step.kind,
        at_s=step.at_s,
        model=life.model,
        variant=life.variant,
        accelerator_class=life.application.accelerator_class,
        accelerators=life.application.accelerators,
        purchase=life.application.purchase,
        usd_per_hour=usd_per_hour,
        cause=step.cause,
    )


def cold_start_s(durations_s: Iterable[float]) -> float | None:
    """Return the median time from start to ready, or None before the first."""
    ordered = sorted(durations_s)
    if not ordered:
        return None
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


_AT_ONCE_S = 3.0
"""A replica that has a process so soon after Serve began with it has not waited for a machine."""
_ORDER = {ReplicaPhase.STARTING: 0, ReplicaPhase.READY: 1, ReplicaPhase.DRAINING: 2}


def _at(replica: ObservedReplica, host: str | None) -> ObservedReplica:
    """Return the replica with the address it can be reached at: Serve lists its node's, wherever it listens."""
    if host is None or replica.address is None:
        return replica
    return msgspec.structs.replace(replica, address=host)


def _phase(replica: ObservedReplica) -> ReplicaPhase:
    if replica.state in {"STOPPING", "STOPPED"}:
        return ReplicaPhase.DRAINING
    if replica.state in {"STARTING", "RECOVERING"}:
        return ReplicaPhase.STARTING
    return ReplicaPhase.READY


def _advance_one(  # noqa: PLR0917 - one call site, one line
    before: Life | None,
    replica: ObservedReplica,
    app: ObservedApplication,
    application: Application,
    now_s: float,
    cause: str,
    *,
    waits: bool,
) -> tuple[Life, list[Step]]:
    phase = _phase(replica)
    steps: list[Step] = []
    if before is None:
        started_s = min(replica.started_s or now_s, now_s)
        before = Life(
            id=replica.id,
            model=application.model,
            variant=app.name,
            phase=ReplicaPhase.STARTING,
            since_s=started_s,
            started_s=started_s,
            application=application,
        )
    # The last known process and place stay: while a replica stops Serve no longer lists where it listens.
    life = msgspec.structs.replace(
        before,
        pid=replica.pid or before.pid,
        address=replica.address or before.address,
        port=replica.port or before.port,
    )
    if life.paid_s is None and (not waits or replica.pid is not None or phase is not ReplicaPhase.STARTING):
        # Serve tells when it began to want a replica. How long that one then waited is known to who saw it wait.
        at_once = not waits or now_s - life.started_s <= _AT_ONCE_S
        life = msgspec.structs.replace(life, paid_s=life.started_s if at_once else now_s)
        steps.append(Step(life=life, kind=ReplicaEventKind.START, at_s=life.paid_s or now_s, cause=cause))
    if _ORDER[phase] <= _ORDER[life.phase]:
        return life, steps  # a controller that recovers shows replicas as starting that have long been ready
    life = msgspec.structs.replace(life, phase=phase, since_s=now_s)
    if phase == ReplicaPhase.READY:
        life = msgspec.structs.replace(life, ready_s=now_s)
        steps.append(Step(life=life, kind=ReplicaEventKind.READY, at_s=now_s, cause="Started"))
    elif life.ready_s is not None:
        steps.append(Step(life=life, kind=ReplicaEventKind.DRAIN, at_s=now_s, cause=_drain_cause(app, cause)))
    return life, steps


def _drain_cause(app: ObservedApplication, cause: str) -> str:
    live = sum(replica.is_live for replica in app.replicas)
    if app.status == "DELETING":
        return "Deleted"
    if app.target is not None and live < app.target:
        return "Unhealthy"
    return cause


def _end(life: Life, now_s: float, causes: Mapping[str, str], *, removed: bool) -> Step:
    if removed:
        cause = causes.get(life.model, "Deleted")
    elif life.phase == ReplicaPhase.READY:
        cause = "EngineDied"
    elif life.phase == ReplicaPhase.STARTING:
        cause = "StartFailed"
    else:
        cause = causes.get(life.model, "Drained")
    return Step(life=life, kind=ReplicaEventKind.END, at_s=now_s, cause=cause)
