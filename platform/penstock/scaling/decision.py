"""The record of a decision: what was asked and by what, what was refused, and what the other choice would have cost."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from penstock.scaling.snapshot import Memory


class Direction(StrEnum):
    """Which way the target went."""

    UP = "Up"
    DOWN = "Down"
    HOLD = "Hold"


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """One reason to want replicas."""

    name: str
    asks: int
    """Replicas it asks for at target pressure; 0 when it has nothing to say."""
    keeps: int
    """Replicas it would still need at release pressure: the target does not go below."""
    why: str
    inputs: Mapping[str, float | None] = {}
    """The figures it used, units in their names."""


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """One condition that must be calm before a replica may go."""

    name: str
    calm: bool
    why: str


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A number of replicas that the target may not pass, whatever the bounds ask."""

    name: str
    """`min`, `max`, `ceiling` or `step`."""
    replicas: int
    why: str


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A target that something asked for and did not get."""

    replicas: int
    by: str
    """Who asked: a bound, or `calm` for the step down."""
    reason: str


class Counterfactual(msgspec.Struct, frozen=True, kw_only=True):
    """The other choice: holding when the target moved, the next step otherwise."""

    replicas: int
    usd_per_hour_delta: str
    """Its dollars per hour less those of the decision; negative when it would have been cheaper."""
    consequence: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision about one model: a line of the decision log."""

    model: str
    at_s: float
    target_before: int
    target_after: int
    direction: Direction
    ruling: str
    """The bound, guard or limit that decided: `kv`, `throughput`, `ceiling`, `calm`, ..."""
    reason: str
    """One sentence with numbers."""
    ready: int = 0
    starting: int = 0
    draining: int = 0
    wanted: int = 0
    """The largest number any bound asked for, before limits."""
    bounds: tuple[Bound, ...] = ()
    guards: tuple[Guard, ...] = ()
    limits: tuple[Limit, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    counterfactual: Counterfactual | None = None
    usd_per_hour_before: str = "0"
    usd_per_hour_after: str = "0"
    memory: Memory = Memory()
    """To be carried by the next snapshot."""


CAUSES: Mapping[str, str] = {
    "kv": "KVBound",
    "throughput": "ThroughputBound",
    "sequences": "SequenceBound",
    "latency": "LatencyBound",
    "waiting": "WaitingBound",
    "min": "MinReplicas",
    "max": "MaxReplicas",
    "ceiling": "CostCeiling",
    "calm": "CalmDown",
    "idle": "ScaledToZero",
    "step": "StepLimit",
    "external": "External",
}
"""CamelCase words for replica events and conditions, by ruling."""


def cause_of(decision: Decision) -> str:
    """Return the decision's ruling as a CamelCase word."""
    return CAUSES.get(decision.ruling, decision.ruling.capitalize())
