"""From a choice to its record: dollars, what was rejected, and what the other choice would have led to."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from penstock.scaling.bounds import View
from penstock.scaling.decision import Bound, Counterfactual, Decision, Direction, Guard, Limit, Rejected
from penstock.scaling.snapshot import Memory


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A target and why."""

    target: int
    wanted: int
    ruling: str
    reason: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that was weighed."""

    view: View
    bounds: tuple[Bound, ...]
    guards: tuple[Guard, ...]
    floor: Limit
    caps: tuple[Limit, ...]

    @property
    def asker(self) -> Bound | None:
        """The bound that asks for most."""
        return max(self.bounds, key=lambda bound: bound.asks, default=None)

    @property
    def keeper(self) -> Bound | None:
        """The bound that keeps most."""
        return max(self.bounds, key=lambda bound: bound.keeps, default=None)

    @property
    def excited(self) -> tuple[Guard, ...]:
        """Guards that are not calm."""
        return tuple(guard for guard in self.guards if not guard.calm)


def record(evidence: Evidence, choice: Choice, memory: Memory) -> Decision:
    """Return the full record of a choice."""
    view = evidence.view
    snapshot = view.snapshot
    before, after = snapshot.target, choice.target
    direction = Direction.HOLD if after == before else Direction.UP if after > before else Direction.DOWN
    price = Decimal(snapshot.prices.usd_per_replica_hour)
    verb = {
        Direction.HOLD: f"Holding {after}",
        Direction.UP: f"From {before} up to {after}",
        Direction.DOWN: f"From {before} down to {after}",
    }[direction]
    return Decision(
        model=snapshot.model,
        at_s=snapshot.at_s,
        target_before=before,
        target_after=after,
        direction=direction,
        ruling=choice.ruling,
        reason=f"{verb}: {choice.reason}.",
        ready=view.supply.ready,
        starting=view.supply.starting,
        draining=view.supply.draining,
        wanted=choice.wanted,
        bounds=evidence.bounds,
        guards=evidence.guards,
        limits=(evidence.floor, *evidence.caps),
        rejected=_rejected(evidence, choice),
        counterfactual=_counterfactual(evidence, choice),
        usd_per_hour_before=str(price * before),
        usd_per_hour_after=str(price * after),
        memory=memory,
    )


def _rejected(evidence: Evidence, choice: Choice) -> tuple[Rejected, ...]:
    if choice.ruling == "external":
        return ()
    before, after = evidence.view.snapshot.target, choice.target
    rejected: list[Rejected] = []
    cap = min(evidence.caps, key=lambda limit: limit.replicas)
    for bound in evidence.bounds:
        if bound.asks > after:
            rejected.append(Rejected(replicas=bound.asks, by=bound.name, reason=f"{cap.name}: {cap.why}"))
        elif 0 < bound.asks < after and bound.asks > before:
            rejected.append(Rejected(replicas=bound.asks, by=bound.name, reason=f"{choice.ruling} asks for more"))
    if after == before and before > evidence.floor.replicas:
        reason = _why_not_down(evidence) or choice.reason
        rejected.append(Rejected(replicas=before - 1, by="calm", reason=reason))
    return tuple(rejected)


def _why_not_down(evidence: Evidence) -> str:
    target = evidence.view.snapshot.target
    reasons = [f"{bound.name} keeps {bound.keeps}" for bound in evidence.bounds if bound.keeps >= target]
    reasons += [f"guard {guard.name}: {guard.why}" for guard in evidence.excited]
    return "; ".join(reasons)


def _counterfactual(evidence: Evidence, choice: Choice) -> Counterfactual | None:
    view = evidence.view
    before, after = view.snapshot.target, choice.target
    if choice.ruling == "external":
        return None
    if after != before:
        other = before
    elif choice.wanted > after:
        other = choice.wanted
    elif after > evidence.floor.replicas:
        other = after - 1
    else:
        return None
    price = Decimal(view.snapshot.prices.usd_per_replica_hour)
    return Counterfactual(
        replicas=other,
        usd_per_hour_delta=str(price * (other - after)),
        consequence=_consequence(view, evidence.bounds, other, after),
    )


def _consequence(view: View, bounds: tuple[Bound, ...], other: int, after: int) -> str:
    """Say what would become of the queue with `other` replicas."""
    if other > after:
        return "the same load on more replicas; any queue would drain sooner, after a cold start"
    demand, capacity = view.snapshot.demand, view.snapshot.capacity
    cold_start_s = view.snapshot.cold_start_s
    if capacity.work_per_s and demand.work_per_request > 0:
        surplus_rps = view.forecast.rps - other * capacity.work_per_s / demand.work_per_request
        if surplus_rps > 0:
            requests = surplus_rps * cold_start_s
            return f"the queue would grow by {surplus_rps:.2f} requests/s: {requests:.0f} in one cold start"
    short = [bound for bound in bounds if bound.asks > other]
    if short:
        return f"{short[0].name} would go on wanting {short[0].asks}: {short[0].why}"
    tight = [bound for bound in bounds if bound.keeps > other]
    if tight:
        return f"no queue expected, but {tight[0].name} would leave too little room: it keeps {tight[0].keeps}"
    return "no queue expected"
