"""The replicas of a snapshot sorted by what can be said of them."""

from __future__ import annotations

import msgspec

from penstock.scaling.policy import ScalingPolicy
from penstock.scaling.snapshot import ReplicaPhase, ReplicaReading, ScalingSnapshot


class Supply(msgspec.Struct, frozen=True, kw_only=True):
    """Ready replicas by the freshness of their readings, and counts of the others."""

    fresh: tuple[ReplicaReading, ...]
    """Ready, with a reading that counts."""
    young: tuple[ReplicaReading, ...]
    """Ready for so short a time that a reading may still be on its way: taken to be empty."""
    stale: tuple[ReplicaReading, ...]
    """Ready, silent for too long: nothing is known of them."""
    starting: int
    draining: int

    @property
    def ready(self) -> int:
        """Replicas that serve."""
        return len(self.fresh) + len(self.young) + len(self.stale)

    @property
    def kv_held(self) -> float:
        """KV that live requests hold, in caches of one replica."""
        return sum(reading.kv_usage for reading in self.fresh)

    @property
    def running(self) -> float:
        """Requests that engines run, mean of the fast window."""
        return sum(reading.running for reading in self.fresh)

    @property
    def waiting_for_capacity(self) -> int:
        """Requests that engines hold back for want of capacity."""
        return sum(reading.waiting_for_capacity for reading in self.fresh)

    @property
    def preemptions_per_s(self) -> float:
        """Requests a second that lost their KV blocks and begin again."""
        return sum(reading.preemptions_per_s for reading in self.fresh)

    @property
    def newest_ready_s(self) -> float:
        """When the youngest ready replica became ready; 0 without one."""
        return max((r.since_s for group in (self.fresh, self.young, self.stale) for r in group), default=0.0)

    def kv_full(self, policy: ScalingPolicy) -> bool:
        """Return whether every replica that can be seen is out of KV blocks: one that is not could take the load."""
        return bool(self.fresh) and not self.young and all(_is_full(reading, policy) for reading in self.fresh)

    def queued_everywhere(self) -> bool:
        """Return whether requests wait on every replica that can be seen: otherwise it is a matter of routing."""
        return bool(self.fresh) and not self.young and all(reading.waiting_for_capacity > 0 for reading in self.fresh)


def supply_of(snapshot: ScalingSnapshot, policy: ScalingPolicy) -> Supply:
    """Sort the snapshot's replicas."""
    fresh: list[ReplicaReading] = []
    young: list[ReplicaReading] = []
    stale: list[ReplicaReading] = []
    for reading in snapshot.readings:
        if reading.state is not ReplicaPhase.READY:
            continue
        if reading.reading_age_s is not None and reading.reading_age_s <= policy.stale_after_s:
            fresh.append(reading)
        elif reading.reading_age_s is None and snapshot.at_s - reading.since_s <= policy.stale_after_s:
            young.append(reading)
        else:
            stale.append(reading)
    phases = [reading.state for reading in snapshot.readings]
    return Supply(
        fresh=tuple(fresh),
        young=tuple(young),
        stale=tuple(stale),
        starting=phases.count(ReplicaPhase.STARTING),
        draining=phases.count(ReplicaPhase.DRAINING),
    )


def _is_full(reading: ReplicaReading, policy: ScalingPolicy) -> bool:
    # Few large requests leave blocks free that the next one does not fit into: 0.6 in one request is full for two.
    after_next = reading.kv_usage_peak + reading.kv_usage / reading.running if reading.running else 0.0
    return reading.kv_usage_peak >= policy.kv_high or after_next > 1 or reading.preemptions_per_s > 0
