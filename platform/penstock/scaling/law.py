"""The scaling law: a pure function from what was seen to a decision that can explain itself.

Up at once, to the largest number that any bound asks for, within the limits. Down by one replica at a time, and only
after every bound could do with fewer and every guard was calm for a whole window. See `docs/concepts/scaling.md`.
"""

from __future__ import annotations

import msgspec

from penstock.api.scaling import ScalingMode
from penstock.scaling.bounds import View, all_bounds
from penstock.scaling.decision import Decision
from penstock.scaling.demand import forecast
from penstock.scaling.guards import all_guards, caps_of, floor_of, is_idle, remember
from penstock.scaling.policy import ScalingPolicy
from penstock.scaling.record import Choice, Evidence, record
from penstock.scaling.snapshot import ScalingSnapshot
from penstock.scaling.supply import supply_of


def decide(snapshot: ScalingSnapshot, policy: ScalingPolicy) -> Decision:
    """Return how many replicas there should be, and why.

    Args:
        snapshot: what was seen, with the memory of the previous decision.
        policy: what the owner asks.

    Returns:
        The decision. Its `memory` belongs into the next snapshot, its `target_after` becomes the next target.
    """
    view = _view(snapshot, policy)
    floor = floor_of(view)
    evidence = Evidence(
        view=view,
        bounds=all_bounds(view),
        guards=all_guards(view),
        floor=floor,
        caps=caps_of(snapshot, policy, view.supply, floor),
    )
    calm = not evidence.excited and _keeps(evidence) < snapshot.target
    since_s = view.memory.calm_since_s
    calm_since_s = (snapshot.at_s if since_s is None else since_s) if calm else None
    choice = _choose(evidence, calm_since_s)
    # Each step down earns its own window: the next is judged by what the replicas that remain show.
    moved = choice.target != snapshot.target
    memory = msgspec.structs.replace(view.memory, calm_since_s=None if moved else calm_since_s)
    return record(evidence, choice, memory)


def _view(snapshot: ScalingSnapshot, policy: ScalingPolicy) -> View:
    """Gather what the bounds look at: with the fast window in panic, which is found by looking with it once."""
    supply = supply_of(snapshot, policy)
    memory = remember(snapshot, policy, supply)
    lead_s = snapshot.cold_start_s
    fast = View(
        snapshot=snapshot,
        policy=policy,
        supply=supply,
        forecast=forecast(snapshot.demand, lead_s, panic=True),
        memory=memory,
    )
    most = max((bound.asks for bound in all_bounds(fast)), default=0)
    # One more than ready is an ordinary step, however large a part of a small fleet it is.
    if supply.ready and most >= policy.panic_ratio * supply.ready and most > supply.ready + 1:
        hold_s = min(policy.panic_hold_s, policy.scale_down_after_s)
        memory = msgspec.structs.replace(memory, panic_until_s=snapshot.at_s + hold_s)
    if memory.panic_until_s is not None:
        return msgspec.structs.replace(fast, memory=memory)
    return msgspec.structs.replace(fast, forecast=forecast(snapshot.demand, lead_s, panic=False), memory=memory)


def _choose(evidence: Evidence, calm_since_s: float | None) -> Choice:
    snapshot, policy = evidence.view.snapshot, evidence.view.policy
    target, floor, asker = snapshot.target, evidence.floor, evidence.asker
    if policy.mode is ScalingMode.EXTERNAL:
        return Choice(target=target, wanted=target, ruling="external", reason="the target is set from outside")
    wanted = max(asker.asks if asker else 0, floor.replicas)
    cap = min(evidence.caps, key=lambda limit: limit.replicas)
    # A cap below the target holds at once; otherwise caps only keep the target from rising past them.
    if cap.replicas < target:
        return Choice(target=cap.replicas, wanted=wanted, ruling=cap.name, reason=cap.why)
    if wanted <= target:
        return _down_or_hold(evidence, wanted, calm_since_s)
    if asker is None or floor.replicas > asker.asks:
        ruling, why = floor.name, floor.why
    else:
        ruling, why = asker.name, asker.why
    if cap.replicas == target:
        reason = f"{ruling} asks for {wanted}, but {cap.why}"
        return Choice(target=target, wanted=wanted, ruling=cap.name, reason=reason)
    return Choice(target=min(wanted, cap.replicas), wanted=wanted, ruling=ruling, reason=why)


def _down_or_hold(evidence: Evidence, wanted: int, calm_since_s: float | None) -> Choice:
    snapshot, policy = evidence.view.snapshot, evidence.view.policy
    target, floor, keeper = snapshot.target, evidence.floor, evidence.keeper
    if not evidence.excited and target > 0 and is_idle(evidence.view) and _keeps(evidence) == 0:
        return Choice(target=0, wanted=wanted, ruling="idle", reason=floor.why)
    if target <= floor.replicas:
        return Choice(target=target, wanted=wanted, ruling=floor.name, reason=floor.why)
    if keeper is not None and keeper.keeps >= target:
        return Choice(target=target, wanted=wanted, ruling=keeper.name, reason=keeper.why)
    if evidence.excited:
        guard = evidence.excited[0]
        reason = f"{target - 1} would do, but {guard.why}"
        return Choice(target=target, wanted=wanted, ruling=guard.name, reason=reason)
    calm_s = 0.0 if calm_since_s is None else snapshot.at_s - calm_since_s
    if calm_s < policy.scale_down_after_s:
        reason = f"{target - 1} would do, calm for {calm_s:.0f} s of {policy.scale_down_after_s:g} s"
        return Choice(target=target, wanted=wanted, ruling="calm", reason=reason)
    reason = f"{target - 1} would do and everything has been calm for {calm_s:.0f} s"
    return Choice(target=target - 1, wanted=wanted, ruling="calm", reason=reason)


def _keeps(evidence: Evidence) -> int:
    return evidence.keeper.keeps if evidence.keeper else 0
