"""What holds of every decision, whatever was seen."""

from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.scaling.decision import Decision, Direction
from penstock.scaling.law import decide
from penstock.scaling.policy import BOUND_NAMES, ScalingPolicy
from penstock.scaling.snapshot import (
    Capacity,
    Demand,
    Memory,
    Prices,
    ReplicaPhase,
    ReplicaReading,
    ScalingSnapshot,
)
from tests.unit.scaling.snapshots import AT_S

shares = st.floats(0, 1)
rates = st.floats(0, 1_000)
counts = st.integers(0, 500)
ages = st.one_of(st.none(), st.floats(0, 30))
past = st.floats(AT_S - 2_000, AT_S)
histograms = st.one_of(st.just(()), st.lists(st.integers(0, 40), min_size=18, max_size=18).map(tuple))


@st.composite
def readings(draw):
    usage = draw(shares)
    waiting = draw(counts)
    return ReplicaReading(
        replica=draw(st.text("abcdef", min_size=1, max_size=8)),
        state=draw(st.sampled_from(ReplicaPhase)),
        since_s=draw(past),
        kv_usage=usage,
        kv_usage_peak=draw(st.floats(usage, 1)),
        running=draw(counts),
        waiting=waiting,
        waiting_for_capacity=draw(st.integers(0, waiting)),
        preemptions_per_s=draw(st.sampled_from([0.0, 0.0, 1.5])),
        kv_capacity_tokens=draw(st.sampled_from([None, 8_192])),
        max_sequences=draw(st.sampled_from([None, 16])),
        reading_age_s=draw(ages),
    )


@st.composite
def demands(draw):
    backlog = draw(counts)
    return Demand(
        arrival_rps=draw(rates),
        fast_arrival_rps=draw(rates),
        prompt_tokens=draw(st.floats(0, 5_000)),
        completion_tokens=draw(st.floats(0, 5_000)),
        work_per_request=draw(st.floats(0, 10_000)),
        in_flight=draw(counts),
        waiting_in_gateway=draw(st.integers(0, backlog)),
        backlog_requests=backlog,
        backlog_work=draw(st.floats(0, 1e6)),
        seconds_per_request=draw(st.one_of(st.none(), st.floats(0, 60))),
        completed_requests=draw(counts),
        ttft_buckets=draw(histograms),
        tpot_buckets=draw(histograms),
        idle_s=draw(st.floats(0, 2_000)),
        report_age_s=draw(ages),
        silent_gateways=draw(st.integers(0, 1)),
    )


moments = st.one_of(st.none(), past)
memories = st.builds(
    Memory,
    calm_since_s=moments,
    kv_short_since_s=moments,
    queued_since_s=moments,
    panic_until_s=st.one_of(st.none(), st.floats(AT_S - 60, AT_S + 60)),
)
prices = st.builds(
    Prices,
    usd_per_replica_hour=st.sampled_from(["0", "0.0001", "2.99"]),
    ceiling_usd_per_hour=st.sampled_from([None, "0", "6", "9.5"]),
)
snapshots = st.builds(
    ScalingSnapshot,
    model=st.just("tiny"),
    at_s=st.just(AT_S),
    target=st.integers(0, 12),
    readings=st.lists(readings(), max_size=5).map(tuple),
    demand=demands(),
    cold_start_s=st.floats(0, 600),
    capacity=st.builds(Capacity, work_per_s=st.one_of(st.none(), st.floats(0.1, 1e5)), samples=st.just(9)),
    prices=prices,
    memory=memories,
)


@st.composite
def policies(draw):
    low = draw(st.integers(0, 8))
    return ScalingPolicy(
        min_replicas=low,
        max_replicas=draw(st.integers(max(low, 1), 10)),
        target_pressure=draw(st.sampled_from([0.5, 0.85, 1.0])),
        scale_down_after_s=draw(st.sampled_from([0.0, 30.0, 300.0])),
        scale_to_zero_after_s=draw(st.sampled_from([None, 60.0])) if low == 0 else None,
        ttft_slo_s=draw(st.sampled_from([None, 0.5])),
        tpot_slo_s=draw(st.sampled_from([None, 0.05])),
    )


def without_limits(snapshot, policy):
    """The same with room for anything: so that what is compared is what the bounds ask."""
    return (
        msgspec.structs.replace(snapshot, prices=Prices(), target=min(snapshot.target, 10)),
        msgspec.structs.replace(policy, max_replicas=1_000_000),
    )


@settings(deadline=None)
@given(snapshots, policies(), st.floats(1, 20))
def test_more_demand_never_asks_for_fewer(seen, policy, factor):
    seen, policy = without_limits(seen, policy)
    demand = seen.demand
    more = msgspec.structs.replace(
        seen,
        demand=msgspec.structs.replace(
            demand,
            arrival_rps=demand.arrival_rps * factor,
            fast_arrival_rps=demand.fast_arrival_rps * factor,
            backlog_requests=int(demand.backlog_requests * factor),
            backlog_work=demand.backlog_work * factor,
            in_flight=int(demand.in_flight * factor),
        ),
        readings=tuple(
            msgspec.structs.replace(
                reading,
                waiting=int(reading.waiting * factor),
                waiting_for_capacity=int(reading.waiting_for_capacity * factor),
            )
            for reading in seen.readings
        ),
    )
    assert decide(more, policy).wanted >= decide(seen, policy).wanted
    assert decide(more, policy).target_after >= decide(seen, policy).target_after


@settings(deadline=None)
@given(snapshots, policies())
def test_the_target_stays_between_minimum_and_maximum_unless_dollars_forbid(seen, policy):
    decision = decide(seen, policy)
    floor = next(limit.replicas for limit in decision.limits if limit.name == "min")
    ceiling = min((limit.replicas for limit in decision.limits if limit.name == "ceiling"), default=10**9)
    assert decision.target_after <= policy.max_replicas
    assert decision.target_after >= min(floor, ceiling)
    assert floor >= min(policy.min_replicas, 1)


@settings(deadline=None)
@given(snapshots, policies())
def test_the_ceiling_is_never_exceeded(seen, policy):
    decision = decide(seen, policy)
    if seen.prices.ceiling_usd_per_hour is not None:
        spent = Decimal(decision.usd_per_hour_after)
        assert spent <= Decimal(seen.prices.ceiling_usd_per_hour)
        if decision.direction is Direction.UP:
            draining = decision.draining * Decimal(seen.prices.usd_per_replica_hour)
            assert spent + draining <= Decimal(seen.prices.ceiling_usd_per_hour)


@settings(deadline=None)
@given(snapshots, policies())
def test_nothing_goes_down_while_a_guard_is_not_calm(seen, policy):
    seen, policy = without_limits(seen, policy)
    decision = decide(seen, policy)
    if any(not guard.calm for guard in decision.guards):
        assert decision.target_after >= decision.target_before


@settings(deadline=None)
@given(snapshots, policies())
def test_down_is_one_step_after_a_whole_window(seen, policy):
    seen, policy = without_limits(seen, policy)
    decision = decide(seen, policy)
    if decision.direction is Direction.DOWN and decision.ruling != "idle":
        since_s = seen.memory.calm_since_s
        calm_s = 0 if since_s is None else seen.at_s - since_s
        assert decision.target_after == decision.target_before - 1
        assert calm_s >= policy.scale_down_after_s


@settings(deadline=None)
@given(snapshots, policies())
def test_the_same_sights_give_the_same_decision(seen, policy):
    again = msgspec.json.decode(msgspec.json.encode(seen), type=ScalingSnapshot)
    assert decide(seen, policy) == decide(again, policy)


@settings(deadline=None)
@given(snapshots, policies(), st.sampled_from(sorted(BOUND_NAMES)))
def test_disabling_a_bound_never_raises_the_target(seen, policy, name):
    blind = msgspec.structs.replace(policy, disabled_bounds=frozenset({name}))
    assert decide(seen, blind).target_after <= decide(seen, policy).target_after


@settings(deadline=None)
@given(snapshots, policies())
def test_a_starting_replica_in_the_target_changes_no_wish(seen, policy):
    """What bounds ask is a number of replicas in all: one that starts neither adds to it nor takes from it."""
    seen, policy = without_limits(seen, policy)
    extra = ReplicaReading(replica="new", state=ReplicaPhase.STARTING, since_s=AT_S)
    ordered = msgspec.structs.replace(seen, readings=(*seen.readings, extra), target=seen.target + 1)
    without, with_extra = decide(seen, policy), decide(ordered, policy)
    assert with_extra.wanted == without.wanted
    if without.direction is Direction.UP:
        assert with_extra.target_after in {without.target_after, ordered.target}


@settings(deadline=None)
@given(snapshots, policies())
def test_a_decision_survives_its_log_line(seen, policy):
    decision = decide(seen, policy)
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision
