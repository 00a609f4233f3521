"""Loads that platforms meet, and what the law makes of them."""

import pytest

from penstock.api.scaling import ScalingMode
from penstock.scaling.decision import Direction, cause_of
from penstock.scaling.law import decide
from penstock.scaling.policy import ScalingPolicy
from penstock.scaling.snapshot import Capacity, Memory, Prices
from tests.unit.scaling.snapshots import (
    AT_S,
    LONG_QUEUED,
    LONG_SHORT,
    backlog,
    decide_for,
    demand,
    draining,
    later,
    ready,
    snapshot,
    starting,
)

FOUR = ScalingPolicy(min_replicas=1, max_replicas=4)
KV_SHORT = ready(kv_usage=0.97, running=13, waiting=12, waiting_for_capacity=12, preemptions_per_s=2.0)
PREFILL_HEAVY = ready(kv_usage=0.32, running=8, waiting=40, waiting_for_capacity=40)


def test_decode_heavy_load_that_waits_for_kv_scales_up_by_the_kv_bound():
    decision = decide(snapshot(KV_SHORT, demand=backlog(12), memory=LONG_SHORT), FOUR)
    assert (decision.direction, decision.ruling) == (Direction.UP, "kv")
    assert cause_of(decision) == "KVBound"


def test_without_the_kv_bound_the_same_shortage_scales_nothing():
    seen = snapshot(KV_SHORT, demand=backlog(12), memory=LONG_SHORT)
    blind = ScalingPolicy(max_replicas=4, disabled_bounds=frozenset({"kv"}))
    assert decide(seen, FOUR).target_after > 1
    assert {decision.target_after for decision in decide_for(seen, blind, 60)} == {1}


def test_usage_that_flickers_below_full_while_requests_wait_is_a_shortage_of_blocks():
    flickering = ready(kv_usage=0.8, kv_usage_peak=1.0, running=12, waiting=3, waiting_for_capacity=3)
    quick = backlog(3, seconds_per_request=0.1)
    decision = decide(snapshot(flickering, demand=quick, memory=LONG_SHORT), FOUR)
    assert (decision.target_after, decision.ruling) == (2, "kv")


def test_a_silent_replica_is_still_one_that_serves():
    silent = ready("b", reading_age_s=60.0)
    seen = snapshot(KV_SHORT, silent, demand=backlog(12, seconds_per_request=0.1), memory=LONG_SHORT)
    assert decide(seen, FOUR).target_after == 3


def test_a_shortage_of_blocks_must_last_before_queued_requests_count():
    half_full = ready(kv_usage=0.6, running=1, waiting=9, waiting_for_capacity=9)
    decisions = decide_for(snapshot(half_full, demand=backlog(9)), FOUR, 10)
    assert [d.direction for d in decisions] == [Direction.HOLD, Direction.HOLD, Direction.UP]
    assert decisions[-1].ruling == "kv"


def test_prefill_heavy_load_that_saturates_at_a_third_of_the_kv_scales_up():
    decision = decide(snapshot(PREFILL_HEAVY, demand=backlog(40), memory=LONG_QUEUED), FOUR)
    assert (decision.direction, decision.ruling) == (Direction.UP, "waiting")


def test_prefill_heavy_load_is_sized_by_work_once_capacity_is_known():
    seen = snapshot(PREFILL_HEAVY, demand=backlog(60, rps=8.0), capacity=Capacity(work_per_s=4.0, samples=20))
    decision = decide(seen, FOUR)
    # 8/s arrive, 60 are to be drained in 60 s, a replica does 4/s of which 0.85 is to be used: 9 / 3.4.
    assert (decision.target_after, decision.ruling) == (3, "throughput")


def test_a_queue_on_one_of_two_replicas_is_a_matter_of_routing():
    seen = snapshot(PREFILL_HEAVY, ready("b"), demand=backlog(40), memory=LONG_QUEUED)
    assert decide(seen, FOUR).direction is Direction.HOLD


def test_a_replica_that_is_starting_is_supply():
    seen = snapshot(KV_SHORT, starting(), demand=backlog(12, seconds_per_request=4.0), memory=LONG_SHORT)
    assert decide(seen, FOUR).direction is Direction.HOLD


def test_demand_beyond_what_is_starting_adds_more():
    capacity = Capacity(work_per_s=4.0, samples=20)
    seen = snapshot(PREFILL_HEAVY, starting(), demand=demand(rps=12.0), capacity=capacity)
    assert decide(seen, FOUR).target_after == 4


def test_a_dead_replica_stays_in_the_target_until_it_is_replaced():
    seen = snapshot(ready("a", kv_usage=0.8), target=2)
    assert decide(seen, FOUR).target_after == 2
    assert decide(seen, FOUR).direction is Direction.HOLD


def test_a_replica_that_just_became_ready_gets_its_time_before_another_is_asked_for():
    fresh = ready("b", kv_usage=0.0, running=0, since_s=AT_S - 1, reading_age_s=None)
    seen = snapshot(KV_SHORT, fresh, demand=backlog(8), memory=LONG_SHORT)
    assert decide(seen, FOUR).target_after == 2


def test_a_calm_fleet_goes_down_by_one_after_a_whole_window():
    policy = ScalingPolicy(max_replicas=4, scale_down_after_s=30)
    decisions = decide_for(snapshot(ready("a"), ready("b"), ready("c")), policy, 100)
    assert [d.target_after for d in decisions] == [3] * 30 + [2]
    assert decisions[-1].ruling == "calm"
    assert decisions[-1].memory.calm_since_s is None


def test_one_restless_moment_begins_the_window_again():
    policy = ScalingPolicy(max_replicas=4, scale_down_after_s=30)
    calm = snapshot(ready("a"), ready("b"))
    almost = decide_for(calm, policy, 29)[-1]
    restless = later(calm, 29, readings=(ready("a", waiting_for_capacity=1), ready("b")), memory=almost.memory)
    after = decide(restless, policy)
    assert after.ruling == "waiting"
    assert len(decide_for(later(calm, 30, memory=after.memory), policy, 100)) == 31


def test_release_leaves_a_gap_below_the_target():
    policy = ScalingPolicy(max_replicas=4, scale_down_after_s=0)
    capacity = Capacity(work_per_s=1.0, samples=20)
    two = (ready("a"), ready("b"))
    fits_target_only = snapshot(*two, demand=demand(rps=0.8), capacity=capacity)
    fits_release = snapshot(*two, demand=demand(rps=0.69), capacity=capacity)
    assert decide(fits_target_only, policy).target_after == 2
    assert decide(fits_release, policy).target_after == 1


def test_an_idle_model_scales_to_zero_and_wakes_for_the_first_request():
    policy = ScalingPolicy(min_replicas=0, max_replicas=4, scale_to_zero_after_s=600)
    asleep = demand(rps=0.0, idle_s=600.0)
    decision = decide(snapshot(ready(kv_usage=0.0, running=0), demand=asleep), policy)
    assert (decision.target_after, decision.ruling) == (0, "idle")
    assert decide(snapshot(demand=asleep), policy).target_after == 0
    woken = decide(snapshot(demand=backlog(1, rps=0.03, waiting_in_gateway=1)), policy)
    assert (woken.target_after, woken.ruling) == (1, "throughput")


def test_a_cold_start_longer_than_the_idle_time_does_not_end_before_it_has_served():
    policy = ScalingPolicy(min_replicas=0, max_replicas=4, scale_to_zero_after_s=60)
    asleep = demand(rps=0.0, idle_s=120.0)
    coming = snapshot(starting(), demand=asleep)
    assert decide(coming, policy).target_after == 1
    young = ready(kv_usage=0.0, running=0, since_s=AT_S - 59)
    assert decide(snapshot(young, demand=asleep), policy).target_after == 1
    assert decide(later(snapshot(young, demand=asleep), 1), policy).target_after == 0


def test_idleness_that_no_gateway_vouches_for_moves_nothing():
    policy = ScalingPolicy(min_replicas=0, max_replicas=4, scale_to_zero_after_s=600)
    asleep = demand(rps=0.0, idle_s=9_999.0, report_age_s=60.0)
    assert decide(snapshot(ready(kv_usage=0.0, running=0), demand=asleep), policy).target_after == 1
    assert decide(snapshot(demand=asleep), policy).target_after == 0


def test_the_ceiling_denies_what_dollars_do_not_cover_and_says_so():
    prices = Prices(usd_per_replica_hour="2.99", ceiling_usd_per_hour="6.00")
    seen = snapshot(
        KV_SHORT,
        ready("b", kv_usage=0.95, waiting_for_capacity=9),
        prices=prices,
        demand=backlog(21),
        memory=LONG_SHORT,
    )
    decision = decide(seen, FOUR)
    assert (decision.target_after, decision.ruling) == (2, "ceiling")
    assert [(r.by, "6.00 $/h" in r.reason) for r in decision.rejected if r.by == "kv"] == [("kv", True)]
    assert decision.counterfactual.usd_per_hour_delta == "11.96"


def test_a_draining_replica_is_still_paid_under_the_ceiling():
    prices = Prices(usd_per_replica_hour="3", ceiling_usd_per_hour="6")
    seen = snapshot(KV_SHORT, draining(), prices=prices, demand=backlog(12), memory=LONG_SHORT)
    assert decide(seen, FOUR).target_after == 1
    assert decide(snapshot(KV_SHORT, prices=prices, demand=backlog(12), memory=LONG_SHORT), FOUR).target_after == 2


def test_a_ceiling_that_only_warns_limits_nothing():
    prices = Prices(usd_per_replica_hour="3", ceiling_usd_per_hour="3")
    seen = snapshot(KV_SHORT, prices=prices, demand=backlog(12), memory=LONG_SHORT)
    assert decide(seen, ScalingPolicy(max_replicas=4, hold_at_ceiling=False)).target_after > 1


def test_missed_latency_asks_for_one_more_once_the_present_replicas_have_had_their_window():
    policy = ScalingPolicy(max_replicas=4, ttft_slo_s=0.5)
    slow = demand(ttft_buckets=(*[0] * 9, 50, *[0] * 8), tpot_buckets=(0,) * 18)
    assert decide(snapshot(ready(), demand=slow), policy).ruling == "latency"
    assert decide(snapshot(ready(), demand=slow), policy).target_after == 2
    young = ready("b", since_s=AT_S - 5)
    assert decide(snapshot(ready(), young, demand=slow), policy).target_after == 2


def test_slots_bound_engines_that_say_how_many_they_have():
    full = ready(kv_usage=0.1, running=16, waiting=30, waiting_for_capacity=30, max_sequences=16)
    decision = decide(snapshot(full, demand=backlog(30), memory=LONG_QUEUED), FOUR)
    # 46 requests in 16 slots, of which 0.85 are to be used.
    assert (decision.target_after, decision.ruling) == (4, "sequences")
    not_full = ready(kv_usage=0.1, running=12, waiting=30, waiting_for_capacity=30, max_sequences=16)
    assert decide(snapshot(not_full, demand=backlog(30), memory=LONG_QUEUED), FOUR).ruling == "waiting"


def test_kv_is_forecast_one_cold_start_ahead_when_arrivals_rise():
    rising = demand(rps=2.0, fast_arrival_rps=8.0, seconds_per_request=5.0)
    steady = demand(rps=2.0, seconds_per_request=5.0)
    seen = ready(kv_usage=0.5, running=10)
    # 16/s forecast (at most twice the fast rate) for 5 s each at 0.05 caches a request: 4 caches over 0.85.
    assert decide(snapshot(seen, demand=rising), ScalingPolicy(max_replicas=9)).target_after == 5
    assert decide(snapshot(seen, demand=steady), ScalingPolicy(max_replicas=9)).target_after == 1


def test_a_burst_panics_and_nothing_goes_down_until_it_is_over():
    policy = ScalingPolicy(max_replicas=9, scale_down_after_s=20)
    capacity = Capacity(work_per_s=2.0, samples=20)
    burst = snapshot(ready(), demand=demand(rps=1.0, fast_arrival_rps=9.0), capacity=capacity)
    panicking = decide(burst, policy)
    assert panicking.target_after == 5
    assert panicking.memory.panic_until_s == AT_S + 20
    fleet = tuple(ready(name) for name in "abcde")
    quiet = snapshot(*fleet, capacity=capacity, demand=demand(rps=0.1), memory=panicking.memory)
    rulings = [decision.ruling for decision in decide_for(quiet, policy, 60)]
    assert rulings == ["panic"] * 20 + ["calm"] * 21


@pytest.mark.parametrize(
    "blind",
    [
        {"readings": (ready("a"), ready("b", reading_age_s=30.0))},
        {"demand": demand(report_age_s=None)},
        {"demand": demand(silent_gateways=1)},
    ],
)
def test_nothing_goes_down_on_stale_data(blind):
    policy = ScalingPolicy(max_replicas=4, scale_down_after_s=0)
    seen = later(snapshot(ready("a"), ready("b")), 0, **blind)
    decision = decide(seen, policy)
    assert (decision.direction, decision.ruling) == (Direction.HOLD, "stale")


def test_external_mode_looks_on():
    policy = ScalingPolicy(mode=ScalingMode.EXTERNAL, max_replicas=1)
    decision = decide(snapshot(KV_SHORT, target=3, memory=LONG_SHORT), policy)
    assert (decision.target_after, decision.ruling) == (3, "external")


def test_the_minimum_is_reached_at_once():
    decision = decide(snapshot(target=0), ScalingPolicy(min_replicas=2, max_replicas=4))
    assert (decision.target_after, decision.ruling) == (2, "min")


def test_a_restart_that_forgets_only_delays_the_step_down():
    policy = ScalingPolicy(max_replicas=4, scale_down_after_s=30)
    calm = snapshot(ready("a"), ready("b"), memory=Memory())
    assert decide(calm, policy).direction is Direction.HOLD
