"""The scaling law: a pure function from what was seen to a decision that can explain itself."""

from __future__ import annotations

from penstock.scaling.decision import Decision, Direction
from penstock.scaling.policy import ScalingPolicy
from penstock.scaling.snapshot import ScalingSnapshot


def decide(snapshot: ScalingSnapshot, policy: ScalingPolicy) -> Decision:
    """Return how many replicas there should be, and why."""
    after = min(max(snapshot.target, policy.min_replicas), policy.max_replicas)
    direction = (
        Direction.HOLD if after == snapshot.target else Direction.UP if after > snapshot.target else Direction.DOWN
    )
    return Decision(
        model=snapshot.model,
        at_s=snapshot.at_s,
        target_before=snapshot.target,
        target_after=after,
        direction=direction,
        ruling="min" if direction is Direction.UP else "max",
        reason=f"{after} of {policy.min_replicas} to {policy.max_replicas} replicas",
        memory=snapshot.memory,
    )
