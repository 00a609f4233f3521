"""From one revision of a Model to the next without a cut stream: who runs how often, and who gets new requests. Pure.

A revision is an application of its own (`MODEL--CLASS--REVISION`), so a rollout never touches a replica: the new
application comes up beside the old one, new requests move by weight, the old one goes to zero, drains, and leaves. A
canary, an edit that is taken back, a placement that comes or goes, and a move to another worker group are the same.

The stable applications are those that carry the Model: they keep following its target until others have taken over, so
a revision that does not start costs nothing but its own tries. Whoever calls this keeps `RolloutState` from call to
call. One that has lost it (a new leader) gives None: what runs is then taken for stable, and a canary begins anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from penstock.api.rollout import Rollout
from penstock.control.conditions import Statement
from penstock.control.revisions import Revisions, Running, Wanted, follow
from penstock.control.status import ConditionType


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of one application."""

    name: str
    target: int
    weight: int | None = None
    """Share of new requests, relative to the Model's others; None when no share is to be set. 0 with target 0 is an
    application that leaves: route away from it, then scale it down."""


class Phase(StrEnum):
    """Where a rollout is."""

    STEADY = "Steady"
    SURGING = "Surging"
    """The new revision comes up; the old one has all new requests."""
    CANARY = "Canary"
    """The new revision has its share of new requests, and time passes."""
    RETIRING = "Retiring"
    """The new revision has all new requests; the old one drains."""
    FAILED = "Failed"
    """The new revision does not start; the old one serves on."""


class RolloutState(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be remembered from one plan to the next."""

    stable: tuple[str, ...]
    """Applications that carry the Model: each has had a replica that took requests."""
    canary_since_s: float | None = None
    """Since when the canary has all its replicas and its share; None while it has not."""
    promoted: bool = False
    """Whether the canary has stood its time."""


class RolloutPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to run, and where the rollout is."""

    variants: tuple[Variant, ...]
    """The wanted applications in their order, then those that leave. An application that is to have no replica and is
    not there is left out; one that Serve has and that is not listed may be removed."""
    phase: Phase
    message: str
    """What is going on and, when it does not go well, what to do; empty when steady."""
    state: RolloutState
    """To be given to the next call."""

    @property
    def carriers(self) -> frozenset[str]:
        """Applications that may have new requests: their replicas are the supply that scaling and `Ready` count."""
        return frozenset(item.name for item in self.variants if item.weight != 0)


def plan_rollout(
    wanted: Sequence[Wanted],
    running: Sequence[Running],
    rollout: Rollout,
    state: RolloutState | None,
    now_s: float,
) -> RolloutPlan:
    """Return the next step of a Model's rollout.

    Args:
        wanted: Its applications as it is now, one for each placement, with targets that add up to its own.
        running: All its applications that Serve has, of any revision.
        rollout: `spec.rollout`.
        state: The last plan's; None at first sight.
        now_s: Unix seconds.
    """
    revisions = Revisions.assign(wanted, running, None if state is None else state.stable)
    if not revisions.old or revisions.has_taken_over:
        return _after(revisions)
    memory = RolloutState(stable=revisions.stable)
    if rollout.canary is None:
        return _surge(revisions, canary=None, state=memory)
    return _canary(revisions, *rollout.canary, state or memory, now_s)


def with_rollout(said: Iterable[Statement], plan: RolloutPlan) -> tuple[Statement, ...]:
    """Return what is said of a Model with what there is to say of its rollout.

    Args:
        said: What `control.conditions.judge` made of the replicas of `plan.carriers`.
        plan: The Model's plan.
    """
    if plan.phase is Phase.STEADY:
        return tuple(said)
    reason = {Phase.CANARY: "Canary", Phase.RETIRING: "Draining"}.get(plan.phase, "RollingOut")
    after: list[Statement] = []
    for statement in said:
        if plan.phase is Phase.FAILED and statement.type is ConditionType.DEGRADED:
            replaced = msgspec.structs.replace(statement, status=True, reason="RolloutFailed", message=plan.message)
        elif plan.phase is not Phase.FAILED and statement.type is ConditionType.PROGRESSING:
            replaced = msgspec.structs.replace(statement, status=True, reason=reason, message=plan.message)
        else:
            replaced = statement
        after.append(replaced)
    return tuple(after)


def _after(revisions: Revisions) -> RolloutPlan:
    """Return the plan once nobody else is needed: the wanted ones have everything, all others go."""
    names = [want.name for want in revisions.wanted]
    serving = {name for name in names if revisions.ready([name])} | {want.name for want in revisions.kept}
    state = RolloutState(stable=tuple(sorted(serving)))
    variants = _present(revisions, revisions.held(revisions.wanted, names))
    gone = (*revisions.old, *revisions.leaving)
    if not gone:
        return RolloutPlan(variants=variants, phase=Phase.STEADY, message="", state=state)
    weighted = _weighted(revisions, variants, dict.fromkeys(names, 1))
    left = sum(revisions.running[name].replicas for name in gone)
    message = f"{', '.join(gone)} finishes its requests and leaves ({left} replicas left)"
    leavers = tuple(Variant(name=name, target=0, weight=0) for name in gone)
    return RolloutPlan(variants=(*weighted, *leavers), phase=Phase.RETIRING, message=message, state=state)


def _canary(revisions: Revisions, percent: int, seconds: int, state: RolloutState, now_s: float) -> RolloutPlan:
    """Return the plan while a canary is to prove itself."""
    trial = revisions.first(max(1, math.ceil(revisions.target * percent / 100)))
    ready = revisions.ready(trial)
    since_s = state.canary_since_s if ready >= sum(trial.values()) else None
    if since_s is None and ready >= sum(trial.values()):
        since_s = now_s
    if (state.promoted and ready) or (since_s is not None and now_s - since_s >= seconds):
        promoted = RolloutState(stable=revisions.stable, canary_since_s=since_s, promoted=True)
        return _surge(revisions, canary=percent, state=promoted)
    after = RolloutState(stable=revisions.stable, canary_since_s=since_s)
    plan = _surge(revisions, canary=None if since_s is None else percent, state=after, trial=trial)
    if since_s is None:
        return plan
    message = (
        f"{' and '.join(trial)} takes {percent} % of new requests, and all of them once it has served {seconds} s "
        "without a failure"
    )
    return msgspec.structs.replace(plan, phase=Phase.CANARY, message=message)


def _surge(
    revisions: Revisions, *, canary: int | None, state: RolloutState, trial: dict[str, int] | None = None
) -> RolloutPlan:
    """Return the plan while new applications come up and the stable ones carry the Model.

    Args:
        revisions: Who plays which part.
        canary: Share of new requests that the new ones have already, in percent.
        state: To be remembered.
        trial: Replicas of the new ones, by name; those wanted when None.
    """
    fresh = {want.name: want.target for want in revisions.new} if trial is None else trial
    kept = revisions.held(revisions.kept, [want.name for want in revisions.kept])
    carried = sum(min(target, revisions.ready([name])) for name, target in kept.items())
    aims = {name: revisions.running[name].target for name in revisions.old}
    serving = {name: revisions.running[name].ready for name in revisions.old}
    held = follow(aims, serving, max(0, revisions.target - carried))
    targets = {want.name: kept.get(want.name, fresh.get(want.name, 0)) for want in revisions.wanted}
    olds = [Variant(name=name, target=target) for name, target in held.items()]
    variants = _weighted(revisions, [*_present(revisions, targets), *olds], _shares(revisions, canary))
    leavers = tuple(Variant(name=name, target=0, weight=0) for name in revisions.leaving)
    phase, message = _progress(revisions, fresh)
    return RolloutPlan(variants=(*variants, *leavers), phase=phase, message=message, state=state)


def _progress(revisions: Revisions, fresh: dict[str, int]) -> tuple[Phase, str]:
    names, olds = " and ".join(fresh), " and ".join(revisions.old)
    failure = revisions.failure()
    if failure is not None:
        return Phase.FAILED, (
            f"the new revision {failure[0]} does not start: {failure[1]}; {olds} serves on. Mend the spec, or set it "
            "back to what it was; until then the new revision is tried again by itself"
        )
    ready, target = revisions.ready(fresh), sum(fresh.values())
    return Phase.SURGING, f"{ready} of {target} replicas of {names} are ready; {olds} serves until they are"


def _shares(revisions: Revisions, canary: int | None) -> dict[str, int]:
    """Return the weight of one replica of each application that is to have new requests."""
    carriers = dict.fromkeys(revisions.carriers, 1)
    if canary is None:
        return carriers
    fresh = [want.name for want in revisions.new if revisions.ready([want.name])]
    # Each side's weight grows with its replicas, so it is weighed by those of the other side to keep the percentage.
    new_total = max(1, _counted(revisions, fresh))
    old_total = max(1, _counted(revisions, carriers))
    return {
        **dict.fromkeys(carriers, (100 - canary) * new_total),
        **dict.fromkeys(fresh, canary * old_total),
    }


def _counted(revisions: Revisions, names: Iterable[str]) -> int:
    return sum(max(1, revisions.ready([name])) for name in names)


def _weighted(revisions: Revisions, variants: Iterable[Variant], shares: dict[str, int]) -> tuple[Variant, ...]:
    """Return the variants with weights in proportion to what is ready; 0 for those without a share."""
    return tuple(
        msgspec.structs.replace(item, weight=shares.get(item.name, 0) * max(1, revisions.ready([item.name])))
        for item in variants
    )


def _present(revisions: Revisions, targets: dict[str, int]) -> tuple[Variant, ...]:
    """Return wanted applications without weights: Serve would start one that is to have none only to stop it."""
    return tuple(
        Variant(name=name, target=target) for name, target in targets.items() if target or name in revisions.running
    )
