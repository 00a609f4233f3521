"""What an owner asks of a model's scaling, and the law's own constants with their reasons."""

from __future__ import annotations

from decimal import Decimal
from typing import Self

import msgspec

from penstock.api.model import AtCeiling, Model
from penstock.api.scaling import ScalingMode
from penstock.scaling.snapshot import Prices


class ScalingPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one model. The first group comes from its resource; the second are constants of the law.

    A field outside its range raises ValueError; the message names it, its value and the remedy.
    """

    mode: ScalingMode = ScalingMode.PRESSURE
    min_replicas: int = 1
    max_replicas: int = 1
    target_pressure: float = 0.85
    """Share of capacity to be used: more asks for a replica."""
    scale_down_after_s: float = 300.0
    """How long everything must be calm before one replica goes."""
    scale_to_zero_after_s: float | None = None
    """Idle time after which the last replicas go too; None for never."""
    panic_window_s: float = 6.0
    """The fast window: a burst shows here first."""
    ttft_slo_s: float | None = None
    tpot_slo_s: float | None = None
    hold_at_ceiling: bool = True
    """Whether the ceiling of the snapshot's prices limits the target."""

    disabled_bounds: frozenset[str] = frozenset()
    """Bounds that may not ask for replicas, by name: to see what each is good for."""
    attainment_goal: float = 0.95
    """Share of streams that are to meet the objective."""
    release_ratio: float = 0.70 / 0.85
    """A replica goes only if the rest would be under this part of the target: the gap that prevents flapping."""
    kv_high: float = 0.9
    """Usage from which KV is taken to be the reason why requests wait: engines admit nothing close to 1."""
    backlog_drain_s: float = 30.0
    """Time in which a backlog is to be worked off, or one cold start if that is longer: no replica helps sooner."""
    patience_s: float = 2.0
    """How long requests must have waited everywhere before that alone asks for a replica: two polls."""
    panic_ratio: float = 2.0
    """Demand over ready supply from which the fast window counts and nothing goes down."""
    panic_hold_s: float = 60.0
    """How long panic lasts after its cause has gone, or the scale-down window if that is shorter."""
    stale_after_s: float = 10.0
    """Age from which a reading says nothing any more."""
    min_streams: int = 20
    """Fewer streams in the window say nothing about attainment."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 <= self.min_replicas <= self.max_replicas:
            raise ValueError(
                f"min_replicas is {self.min_replicas} and max_replicas {self.max_replicas}: "
                "give 0 <= min_replicas <= max_replicas"
            )
        if not 0 < self.target_pressure <= 1:
            raise ValueError(f"target_pressure is {self.target_pressure}: give a share above 0, up to 1, such as 0.85")
        if unknown := self.disabled_bounds - BOUND_NAMES:
            raise ValueError(f"disabled_bounds has {sorted(unknown)}: choose from {sorted(BOUND_NAMES)}")

    @classmethod
    def from_model(cls, model: Model, *, disabled_bounds: frozenset[str] = frozenset()) -> Self:
        """Return what a Model asks for. Prices, and the ceiling with them, come with the snapshot."""
        scaling, slo = model.spec.scaling, model.spec.slo
        least, most = replica_bounds(model)
        return cls(
            mode=scaling.mode,
            min_replicas=least,
            max_replicas=most,
            target_pressure=float(scaling.target_pressure),
            scale_down_after_s=scaling.scale_down_after_seconds,
            scale_to_zero_after_s=None if least else scaling.idle_seconds_to_zero,
            panic_window_s=scaling.panic_window_seconds,
            ttft_slo_s=_seconds(slo.time_to_first_token_milliseconds),
            tpot_slo_s=_seconds(slo.time_per_output_token_milliseconds),
            hold_at_ceiling=model.spec.cost.at_ceiling is AtCeiling.HOLD,
            disabled_bounds=disabled_bounds,
        )

    @property
    def release_pressure(self) -> float:
        """Pressure that the remaining replicas may have after one has gone."""
        return self.target_pressure * self.release_ratio


BOUND_NAMES = frozenset({"kv", "throughput", "sequences", "latency", "waiting"})
"""Everything that may ask for replicas. Limits (`min`, `max`, `ceiling`, `step`) are not bounds and always hold."""


def replica_bounds(model: Model) -> tuple[int, int]:
    """Return the fewest and the most replicas that a Model's scaling and its placements allow together.

    More than its placements have room for could never be placed, and the law would wait for them as supply to come.
    Where the minima of placements add up to more than `scaling.maxReplicas`, they count.
    """
    scaling, placements = model.spec.scaling, model.placements
    held = sum(placement.min_replicas or 0 for placement in placements)
    least, most = max(scaling.min_replicas, held), max(scaling.max_replicas, held)
    limits = [placement.max_replicas for placement in placements if placement.max_replicas is not None]
    room = sum(limits) if len(limits) == len(placements) else most
    return min(least, room), min(most, room)


def prices_of(model: Model, usd_per_replica_hour: Decimal) -> Prices:
    """Return a snapshot's prices: that of one replica, all its accelerators together, and the Model's ceiling."""
    ceiling = model.spec.cost.ceiling_per_hour
    return Prices(
        usd_per_replica_hour=str(usd_per_replica_hour),
        ceiling_usd_per_hour=None if ceiling is None else str(ceiling),
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
