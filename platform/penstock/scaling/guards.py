"""Guards, all of which must be calm for a replica to go; limits, which nothing passes; and what is remembered."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

from penstock.scaling.bounds import View, attained
from penstock.scaling.decision import Guard, Limit
from penstock.scaling.demand import is_any, is_known
from penstock.scaling.policy import ScalingPolicy
from penstock.scaling.snapshot import Memory, ScalingSnapshot
from penstock.scaling.supply import Supply


def all_guards(view: View) -> tuple[Guard, ...]:
    """Return every guard with its state."""
    return (stale(view), panic(view), kv(view), waiting(view), preemptions(view), latency(view))


def stale(view: View) -> Guard:
    """Nothing goes down on old data."""
    supply, demand, policy = view.supply, view.snapshot.demand, view.policy
    silent: list[str] = [f"replica {reading.replica}" for reading in supply.stale]
    if not is_known(demand, policy):
        silent.append("every gateway")
    elif demand.silent_gateways:
        silent.append(f"{demand.silent_gateways} gateway process(es)")
    if not silent:
        return Guard(name="stale", calm=True, why="every source has reported lately")
    return Guard(name="stale", calm=False, why=f"{', '.join(silent)} silent for over {policy.stale_after_s:g} s")


def panic(view: View) -> Guard:
    """Nothing goes down while a burst is on, nor for a while after."""
    until_s = view.memory.panic_until_s
    if until_s is None:
        return Guard(name="panic", calm=True, why="no burst")
    left_s = until_s - view.snapshot.at_s
    return Guard(name="panic", calm=False, why=f"a burst of {view.policy.panic_ratio:g}x supply; {left_s:.0f} s to go")


def kv(view: View) -> Guard:
    """No cache may be nearly full."""
    peak = max((reading.kv_usage_peak for reading in view.supply.fresh), default=0.0)
    return Guard(name="kv", calm=peak < view.policy.kv_high, why=f"highest KV usage {peak:.2f}")


def waiting(view: View) -> Guard:
    """No request may wait for capacity, in an engine or in a gateway."""
    engines, gateways = view.supply.waiting_for_capacity, view.snapshot.demand.waiting_in_gateway
    return Guard(name="waiting", calm=engines + gateways == 0, why=f"{engines} wait in engines, {gateways} in gateways")


def preemptions(view: View) -> Guard:
    """No request may be losing its blocks."""
    rate = view.supply.preemptions_per_s
    return Guard(name="preemptions", calm=rate <= 0, why=f"{rate:.2f} preemptions per second")


def latency(view: View) -> Guard:
    """Objectives that can be judged must be met."""
    policy, demand = view.policy, view.snapshot.demand
    for name, slo_s, buckets in (
        ("time to first token", policy.ttft_slo_s, demand.ttft_buckets),
        ("time per output token", policy.tpot_slo_s, demand.tpot_buckets),
    ):
        share = None if slo_s is None or sum(buckets) < policy.min_streams else attained(buckets, slo_s)
        if share is not None and share < policy.attainment_goal:
            return Guard(name="latency", calm=False, why=f"{name} is met by {share:.0%} of streams")
    return Guard(name="latency", calm=True, why="no objective is missed")


def remember(snapshot: ScalingSnapshot, policy: ScalingPolicy, supply: Supply) -> Memory:
    """Return the memory with what this snapshot shows about waiting; panic that has passed is dropped."""
    memory = snapshot.memory
    full = supply.kv_full(policy)
    short = full and (supply.waiting_for_capacity > 0 or supply.preemptions_per_s > 0)
    queued = supply.queued_everywhere() and not full
    until_s = memory.panic_until_s
    return Memory(
        calm_since_s=memory.calm_since_s,
        kv_short_since_s=_since(memory.kv_short_since_s, snapshot.at_s) if short else None,
        queued_since_s=_since(memory.queued_since_s, snapshot.at_s) if queued else None,
        panic_until_s=until_s if until_s is not None and until_s > snapshot.at_s else None,
    )


def floor_of(view: View) -> Limit:
    """Return the least number of replicas: the minimum, or none once idle for long enough to scale to zero."""
    policy, demand = view.policy, view.snapshot.demand
    after_s = policy.scale_to_zero_after_s
    if after_s is not None and is_idle(view):
        return Limit(name="min", replicas=0, why=f"idle for {demand.idle_s:.0f} s, {after_s:g} s let all replicas go")
    if policy.min_replicas == 0:
        return Limit(name="min", replicas=1, why="one replica until idle for long enough to scale to zero")
    return Limit(name="min", replicas=policy.min_replicas, why=f"the minimum is {policy.min_replicas}")


def is_idle(view: View) -> bool:
    """Return whether nothing has been asked for long enough to scale to zero. That somebody looked, `stale` says.

    A replica that starts, or has not been ready for as long, is waited for: else one whose cold start takes longer than
    the idle time would go before it has served the request that woke it, time and again.
    """
    after_s, demand, supply = view.policy.scale_to_zero_after_s, view.snapshot.demand, view.supply
    if after_s is None or is_any(demand) or demand.idle_s < after_s:
        return False
    return not supply.starting and view.snapshot.at_s - supply.newest_ready_s >= after_s


def caps_of(snapshot: ScalingSnapshot, policy: ScalingPolicy, supply: Supply, floor: Limit) -> tuple[Limit, ...]:
    """Return the most replicas there may be, by each limit."""
    # While new replicas are on their way nothing shows what they change: at most double, or four more, at a time.
    step = max(2 * supply.ready, supply.ready + 4, snapshot.target, floor.replicas)
    caps = [
        Limit(name="step", replicas=step, why=f"at most doubled, or 4 more, while {supply.ready} serve"),
        Limit(name="max", replicas=policy.max_replicas, why=f"the maximum is {policy.max_replicas}"),
    ]
    price = Decimal(snapshot.prices.usd_per_replica_hour)
    if policy.hold_at_ceiling and snapshot.prices.ceiling_usd_per_hour is not None and price > 0:
        ceiling = Decimal(snapshot.prices.ceiling_usd_per_hour)
        affordable = int((ceiling / price).to_integral_value(ROUND_FLOOR))
        # Draining replicas are still paid: they take from what may be added, but drive out nobody who serves.
        replicas = max(affordable - supply.draining, min(affordable, snapshot.target))
        why = f"{price} $/h a replica under a ceiling of {ceiling} $/h"
        if supply.draining:
            why += f", {supply.draining} still draining"
        caps.append(Limit(name="ceiling", replicas=max(replicas, 0), why=why))
    return tuple(caps)


def _since(before_s: float | None, at_s: float) -> float:
    return at_s if before_s is None else before_s
