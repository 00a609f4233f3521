"""What to say of a model: conditions with reasons and remedies, from what was prepared and what runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from penstock.control.replicas import Life
from penstock.control.retries import FIRST_WAIT_S, LONGEST_WAIT_S
from penstock.control.status import Condition, ConditionType
from penstock.scaling.decision import Decision
from penstock.scaling.snapshot import ReplicaPhase
from penstock.serve.status import ObservedApplication, failure_reason


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """Why a model cannot be given to Serve, or why Serve would not take it."""

    reason: str
    """CamelCase: `DoesNotFit`, `WeightsMissing`, `UnknownAcceleratorClass`, `Refused`, ..."""
    message: str
    """What is wrong and what to do."""
    passing: bool = False
    """True when it goes away by itself."""
    fits: bool = False
    """True when the model had been found to fit before this came up."""


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A condition without its time."""

    type: ConditionType
    status: bool | None
    reason: str
    message: str


def judge(
    target: int,
    lives: Sequence[Life],
    applications: Sequence[ObservedApplication],
    obstacle: Obstacle | None,
    *,
    died: str | None = None,
    failed: str | None = None,
    decision: Decision | None = None,
) -> tuple[Statement, ...]:
    """Return what holds of a model now.

    Args:
        target: Wanted replicas.
        lives: Its replicas.
        applications: Its applications as Serve has them.
        obstacle: What keeps it from Serve.
        died: Which replica died and is being replaced, in words.
        failed: Why the last try to start it as it is now failed, in the engine's words.
        decision: The last one about its replicas.
    """
    ready = sum(life.phase is ReplicaPhase.READY for life in lives)
    failures = [app for app in applications if app.has_failed]
    return (
        _fits(obstacle),
        _ready(target, ready, obstacle, failures, decision),
        _progressing(target, ready, lives, applications, obstacle),
        _degraded(target, ready, obstacle, failures, died=died, failed=failed),
    )


def restate(statements: Iterable[Statement], before: Iterable[Condition], now_s: float) -> tuple[Condition, ...]:
    """Return the statements as conditions; one whose status has not changed keeps its time."""
    known = {condition.type: condition for condition in before}
    conditions = []
    for said in statements:
        last = known.get(said.type)
        same = last is not None and last.status == said.status
        since_s = last.since_s if last is not None and same else now_s
        conditions.append(Condition(**msgspec.structs.asdict(said), since_s=since_s))
    return tuple(conditions)


def _fits(obstacle: Obstacle | None) -> Statement:
    if obstacle is not None and obstacle.reason == "DoesNotFit":
        return Statement(type=ConditionType.FITS, status=False, reason=obstacle.reason, message=obstacle.message)
    if obstacle is not None and not obstacle.fits:
        return Statement(type=ConditionType.FITS, status=None, reason="NotChecked", message=obstacle.message)
    return Statement(type=ConditionType.FITS, status=True, reason="Fits", message="")


def _ready(
    target: int,
    ready: int,
    obstacle: Obstacle | None,
    failures: Sequence[ObservedApplication],
    decision: Decision | None,
) -> Statement:
    def say(status: bool, reason: str, message: str) -> Statement:
        return Statement(type=ConditionType.READY, status=status, reason=reason, message=message)

    if ready:
        return say(True, "ReplicasReady", f"{ready} of {target} replicas answer")
    if obstacle is not None:
        return say(False, obstacle.reason, obstacle.message)
    if failures:
        return say(False, "EngineFailed", failure_reason(failures[0].message))
    if target == 0:
        return say(*_why_none(decision))
    return say(False, "Starting", "no replica answers yet")


def _why_none(decision: Decision | None) -> tuple[bool, str, str]:
    """Return what there is to say of a model that is to have no replica: only an idle one wakes for a request."""
    ruling = "" if decision is None else decision.ruling
    if decision is not None and ruling == "ceiling":
        return False, "CostCeiling", f"{decision.reason} Raise spec.cost.ceilingPerHour or use a cheaper class"
    if ruling == "external":
        return False, "NoReplicas", "spec.replicas is 0, and scaling.mode External leaves it so; set it to 1 or more"
    return True, "ScaledToZero", "idle; the next request starts a replica"


def _progressing(
    target: int,
    ready: int,
    lives: Sequence[Life],
    applications: Sequence[ObservedApplication],
    obstacle: Obstacle | None,
) -> Statement:
    starting = sum(life.phase is ReplicaPhase.STARTING for life in lives)
    draining = sum(life.phase is ReplicaPhase.DRAINING for life in lives)
    parts = [f"{starting} starting"] * bool(starting) + [f"{draining} draining"] * bool(draining)
    if obstacle is not None and obstacle.passing:
        reason, message = obstacle.reason, obstacle.message
    elif draining and not starting:
        reason, message = "Draining", ", ".join(parts)
    elif starting:
        reason, message = "Starting", ", ".join(parts)
    elif obstacle is None and ready < target and not any(app.has_failed for app in applications):
        reason, message = "Deploying", "Ray Serve builds the application"
    else:
        return Statement(type=ConditionType.PROGRESSING, status=False, reason="Settled", message="")
    return Statement(type=ConditionType.PROGRESSING, status=True, reason=reason, message=message)


def _degraded(
    target: int,
    ready: int,
    obstacle: Obstacle | None,
    failures: Sequence[ObservedApplication],
    *,
    died: str | None,
    failed: str | None,
) -> Statement:
    reason = message = ""
    if failures:
        reason = "EngineFailed"
        message = (
            f"{failure_reason(failures[0].message)}; Serve tried three times and gave up: mend the model's file, "
            "and it is tried again at once. While no replica runs it is tried anew by itself as well, "
            f"after {FIRST_WAIT_S:.0f} s at first and {LONGEST_WAIT_S:.0f} s at most"
        )
    elif obstacle is not None and not obstacle.passing:
        reason, message = obstacle.reason, obstacle.message
    elif failed is not None and not ready:
        reason, message = "EngineFailed", f"{failed}; it is being tried once more"
    elif died is not None and ready < target:
        reason, message = "EngineDied", died
    if not reason:
        return Statement(type=ConditionType.DEGRADED, status=False, reason="AsWanted", message="")
    return Statement(type=ConditionType.DEGRADED, status=True, reason=reason, message=message)
