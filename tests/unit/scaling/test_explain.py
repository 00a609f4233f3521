"""Decisions in words: every number that mattered is in them."""

from penstock.scaling.explain import explain
from penstock.scaling.law import decide
from penstock.scaling.policy import ScalingPolicy
from penstock.scaling.snapshot import Capacity, Prices
from tests.unit.scaling.snapshots import LONG_SHORT, backlog, decide_for, demand, ready, snapshot

PRICES = Prices(usd_per_replica_hour="2.99")
KV_SHORT = ready(kv_usage=0.97, running=13, waiting=12, waiting_for_capacity=12)


def test_a_step_up_tells_what_ruled_what_it_costs_and_what_was_refused():
    seen = snapshot(KV_SHORT, demand=backlog(12), memory=LONG_SHORT, prices=PRICES)
    words = explain(decide(seen, ScalingPolicy(max_replicas=2)))
    assert "tiny: From 1 up to 2: requests want 1.87 KV caches" in words
    assert "12 waiting for blocks" in words
    assert "2.99 -> 5.98 $/h" in words
    assert "rejected 3 (kv): max: the maximum is 2" in words
    assert "with 1 instead: -2.99 $/h" in words


def test_a_hold_tells_how_much_calm_is_missing():
    policy = ScalingPolicy(max_replicas=4, scale_down_after_s=30)
    decisions = decide_for(snapshot(ready("a"), ready("b"), prices=PRICES), policy, 12)
    assert "Holding 2: 1 would do, calm for 12 s of 30 s." in explain(decisions[-1])
    assert "all guards calm" in explain(decisions[-1])


def test_a_hold_names_the_guard_that_is_not_calm():
    seen = snapshot(ready("a"), ready("b", waiting=1, waiting_for_capacity=1))
    assert "guard waiting not calm: 1 wait in engines, 0 in gateways" in explain(
        decide(seen, ScalingPolicy(max_replicas=4))
    )


def test_the_other_choice_is_told_with_its_queue():
    capacity = Capacity(work_per_s=4.0, samples=20)
    seen = snapshot(ready(), demand=demand(rps=6.0), capacity=capacity, prices=PRICES, cold_start_s=50.0)
    decision = decide(seen, ScalingPolicy(max_replicas=4))
    assert decision.target_after == 2
    assert decision.counterfactual.consequence == "the queue would grow by 2.00 requests/s: 100 in one cold start"


def test_cheaper_by_one_is_told_with_what_would_get_tight():
    capacity = Capacity(work_per_s=4.0, samples=20)
    seen = snapshot(ready("a"), ready("b"), demand=demand(rps=3.0), capacity=capacity, prices=PRICES)
    other = decide(seen, ScalingPolicy(max_replicas=4)).counterfactual
    assert (other.replicas, other.usd_per_hour_delta) == (1, "-2.99")
    assert "throughput would leave too little room: it keeps 2" in other.consequence
