"""The bounds: each a reason to want replicas, with the number it asks for and why.

A bound asks for `asks` replicas at target pressure and keeps `keeps` at the lower release pressure. It speaks only on
data it has: a bound whose source is stale asks for nothing, and the `stale` guard sees to it that nothing goes down.
"""

from __future__ import annotations

from bisect import bisect_left
from math import ceil

import msgspec

from penstock.routing.load import LATENCY_BUCKETS_S
from penstock.scaling.decision import Bound
from penstock.scaling.demand import Forecast, expected_running, is_any, is_known
from penstock.scaling.policy import ScalingPolicy
from penstock.scaling.snapshot import Memory, ScalingSnapshot
from penstock.scaling.supply import Supply

ROUNDING = 1e-9
"""So that 0.85 / 0.85 asks for one replica and not for two."""


SLOTS_FULL = 0.9
"""Part of a replica's slots from which they are taken to be why requests wait: a mean seldom reaches all of them."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What all bounds look at."""

    snapshot: ScalingSnapshot
    policy: ScalingPolicy
    supply: Supply
    forecast: Forecast
    memory: Memory
    """As of this snapshot: since when requests have waited."""

    @property
    def drain_s(self) -> float:
        """Time in which a backlog is to be worked off: no replica helps sooner than one cold start."""
        return max(self.policy.backlog_drain_s, self.snapshot.cold_start_s)

    def lasted(self, since_s: float | None) -> bool:
        """Return whether a condition has held for longer than patience lasts."""
        return since_s is not None and self.snapshot.at_s - since_s >= self.policy.patience_s


def all_bounds(view: View) -> tuple[Bound, ...]:
    """Return every bound that is not disabled. Of two that ask for the same the earlier rules."""
    bounds = (kv(view), throughput(view), sequences(view), latency(view), waiting(view))
    return tuple(bound for bound in bounds if bound.name not in view.policy.disabled_bounds)


def kv(view: View) -> Bound:
    """KV that requests hold, want while they wait, or will want by Little's law, over what a cache should hold.

    Counted in caches of one replica, so that it works for engines that do not tell their size. Usage ends at 1.0:
    beyond, demand shows as requests that wait, which count only while KV is why they wait (every cache is full). They
    need not all run at once but be worked off in the drain time; until requests have shown how long they stay, they
    count in full.
    """
    supply, policy, demand = view.supply, view.policy, view.snapshot.demand
    per_request = _kv_per_request(view)
    short = view.lasted(view.memory.kv_short_since_s)
    queued = supply.waiting_for_capacity if short else 0
    running = None
    if is_known(demand, policy):
        running = expected_running(demand, view.forecast.rps + queued / view.drain_s)
    expected = None if running is None else running * per_request
    wanted = max(supply.kv_held, supply.kv_held + queued * per_request if expected is None else expected)
    asks = _replicas(wanted, policy.target_pressure)
    if short:
        asks = max(asks, supply.ready + 1)
    why = f"requests want {wanted:.2f} KV caches of one replica"
    if short:
        why += f": all {supply.ready} full and {supply.waiting_for_capacity} waiting for blocks"
    elif expected is not None and expected > supply.kv_held:
        why += f": {running:.1f} running at once are expected, {supply.running:.1f} are now"
    capacities = [reading.kv_capacity_tokens for reading in supply.fresh if reading.kv_capacity_tokens is not None]
    capacity = sum(capacities) / len(capacities) if capacities else None
    return Bound(
        name="kv",
        asks=asks,
        keeps=max(asks, _replicas(wanted, policy.release_pressure)),
        why=f"{why}, each to be used to {policy.target_pressure:.2f}",
        inputs={
            "held_caches": supply.kv_held,
            "queued_requests": queued,
            "expected_caches": expected,
            "caches_per_request": per_request,
            "capacity_tokens_per_replica": capacity,
            "waiting_for_capacity": supply.waiting_for_capacity,
            "preemptions_per_s": supply.preemptions_per_s,
        },
    )


def throughput(view: View) -> Bound:
    """Token work that arrives, and the backlog over the time to drain it, over what a replica does."""
    policy, demand, capacity = view.policy, view.snapshot.demand, view.snapshot.capacity
    if not is_known(demand, policy):
        return Bound(name="throughput", asks=0, keeps=0, why="no gateway has reported lately")
    least = 1 if is_any(demand) else 0
    work_per_s = view.forecast.rps * demand.work_per_request + demand.backlog_work / view.drain_s
    inputs: dict[str, float | None] = {
        "arrival_rps": view.forecast.present_rps,
        "expected_rps": view.forecast.rps,
        "work_per_request": demand.work_per_request,
        "backlog_work": demand.backlog_work,
        "drain_s": view.drain_s,
        "work_per_s": work_per_s,
        "capacity_work_per_s": capacity.work_per_s,
        "capacity_samples": capacity.samples,
    }
    if not capacity.work_per_s:
        why = "what a replica can do is not yet known: none has been seen saturated by compute"
        if least and view.snapshot.target == 0:
            why = f"{max(demand.backlog_requests, 1)} request(s) and no replica"
        return Bound(name="throughput", asks=least, keeps=least, why=why, inputs=inputs)
    asks = max(least, _replicas(work_per_s / capacity.work_per_s, policy.target_pressure))
    return Bound(
        name="throughput",
        asks=asks,
        keeps=max(asks, _replicas(work_per_s / capacity.work_per_s, policy.release_pressure)),
        why=(
            f"work of {work_per_s:.4g}/s (backlog of {demand.backlog_requests} included) against "
            f"{capacity.work_per_s:.4g}/s a replica, to be used to {policy.target_pressure:.2f}"
        ),
        inputs=inputs,
    )


def sequences(view: View) -> Bound:
    """Requests that run, wait for a slot, or will run by Little's law, over the slots of a replica."""
    supply, policy, demand = view.supply, view.policy, view.snapshot.demand
    slots = [reading.max_sequences for reading in supply.fresh if reading.max_sequences]
    if not slots:
        return Bound(name="sequences", asks=0, keeps=0, why="the engine does not say how many requests it runs at once")
    per_replica = sum(slots) / len(slots)
    full = all(r.max_sequences is not None and r.running >= SLOTS_FULL * r.max_sequences for r in supply.fresh)
    queued = supply.waiting_for_capacity if full and view.lasted(view.memory.queued_since_s) else 0
    running = (expected_running(demand, view.forecast.rps) if is_known(demand, policy) else None) or 0.0
    wanted = max(supply.running + queued, running)
    asks = _replicas(wanted / per_replica, policy.target_pressure)
    return Bound(
        name="sequences",
        asks=asks,
        keeps=max(asks, _replicas(wanted / per_replica, policy.release_pressure)),
        why=f"{wanted:.0f} requests want to run at once and a replica runs {per_replica:.0f}",
        inputs={"wanted": wanted, "slots_per_replica": per_replica, "queued": queued, "expected": running},
    )


def latency(view: View) -> Bound:
    """One replica more when too few streams meet an objective, once the present replicas have had a whole window."""
    policy, demand, supply = view.policy, view.snapshot.demand, view.supply
    missed: list[str] = []
    inputs: dict[str, float | None] = {}
    for name, slo_s, buckets in (
        ("ttft", policy.ttft_slo_s, demand.ttft_buckets),
        ("tpot", policy.tpot_slo_s, demand.tpot_buckets),
    ):
        share = None if slo_s is None else attained(buckets, slo_s)
        if share is None or slo_s is None or sum(buckets) < policy.min_streams:
            continue
        inputs |= {f"{name}_attained": share, f"{name}_slo_s": slo_s}
        if share < policy.attainment_goal:
            missed.append(f"{share:.0%} of streams meet {name} {slo_s:g} s, the goal is {policy.attainment_goal:.0%}")
    if not missed or not is_known(demand, policy) or not supply.ready:
        return Bound(
            name="latency", asks=0, keeps=0, why="no objective is missed, or none can be judged", inputs=inputs
        )
    settled = view.snapshot.at_s - supply.newest_ready_s >= demand.stable_window_s
    asks = supply.ready + 1 if settled else supply.ready
    suffix = "" if settled else "; the newest replica has not served for a whole window yet"
    return Bound(name="latency", asks=asks, keeps=asks, why="; ".join(missed) + suffix, inputs=inputs)


def waiting(view: View) -> Bound:
    """One replica more when requests wait on every replica and KV is not why: that would be for `kv` to say."""
    supply = view.supply
    if not view.lasted(view.memory.queued_since_s):
        return Bound(name="waiting", asks=0, keeps=0, why="no lasting queue for want of compute or slots")
    return Bound(
        name="waiting",
        asks=supply.ready + 1,
        keeps=supply.ready + 1,
        why=(
            f"{supply.waiting_for_capacity} requests wait on all {supply.ready} replicas "
            f"at {supply.kv_held / max(len(supply.fresh), 1):.0%} KV usage"
        ),
        inputs={"waiting_for_capacity": supply.waiting_for_capacity, "running": supply.running},
    )


def attained(buckets: tuple[int, ...], slo_s: float) -> float | None:
    """Return the share of a histogram over `LATENCY_BUCKETS_S` that lies within `slo_s`; None of an empty one.

    Within the bucket that holds the objective counts are taken to be spread evenly.
    """
    total = sum(buckets)
    if not total:
        return None
    index = bisect_left(LATENCY_BUCKETS_S, slo_s)
    within = float(sum(buckets[:index]))
    if index < len(LATENCY_BUCKETS_S):
        low = LATENCY_BUCKETS_S[index - 1] if index else 0.0
        within += buckets[index] * (slo_s - low) / (LATENCY_BUCKETS_S[index] - low)
    return within / total


def _kv_per_request(view: View) -> float:
    supply, demand = view.supply, view.snapshot.demand
    if supply.running and supply.kv_held > 0:
        return supply.kv_held / supply.running
    capacities = [reading.kv_capacity_tokens for reading in supply.fresh if reading.kv_capacity_tokens]
    if not capacities:
        return 0.0
    # A request holds its prompt all the time and its completion for half of it on average.
    return (demand.prompt_tokens + demand.completion_tokens / 2) / (sum(capacities) / len(capacities))


def _replicas(load: float, pressure: float) -> int:
    return ceil(load / pressure - ROUNDING)
