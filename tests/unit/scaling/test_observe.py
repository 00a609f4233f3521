"""From polls to snapshots: counters, lost polls, restarts, several processes."""

import pytest

from penstock.engines.base import EngineLoad
from penstock.performance.work import NEUTRAL
from penstock.routing.load import LATENCY_BUCKETS_S, GatewayLoad, ModelLoad
from penstock.scaling.observe import LoadWindow
from penstock.scaling.snapshot import ReplicaPhase

READY = ReplicaPhase.READY


def report(at_s, process="g1", **counters):
    return GatewayLoad(process=process, at_s=at_s, snapshot_version=1, models=(ModelLoad(model="tiny", **counters),))


def engine(**fields):
    defaults = {
        "kv_usage": 0.3,
        "running": 4,
        "waiting": 0,
        "waiting_for_capacity": 0,
        "preemptions": 0,
        "prompt_tokens": 0,
        "generation_tokens": 0,
        "prefix_queries": 0,
        "prefix_hits": 0,
    }
    return EngineLoad(**(defaults | fields))


def demand_at(window, now_s, **arguments):
    return window.snapshot("tiny", now_s, replicas=[], target=1, **arguments).demand


def steady(window, seconds, *, rps, process="g1", begin_s=0, lost=()):
    """Feed one report a second of `rps` requests, each done at once: 40 prompt, 10 cached and 20 completion tokens."""
    for second in range(begin_s, seconds + 1):
        if second in lost:
            continue
        done = rps * second
        window.gateway(
            report(
                float(second),
                process,
                arrived=done,
                admitted=done,
                completed=done,
                prompt_tokens=40 * done,
                cached_tokens=10 * done,
                completion_tokens=20 * done,
            )
        )


def test_counters_become_rates_and_means():
    window = LoadWindow()
    steady(window, 60, rps=3)
    demand = demand_at(window, 60.0)
    assert demand.arrival_rps == pytest.approx(3.0)
    assert demand.fast_arrival_rps == pytest.approx(3.0)
    assert (demand.prompt_tokens, demand.cached_tokens, demand.completion_tokens) == (40, 10, 20)
    assert demand.arriving_tokens_per_s == pytest.approx(3.0 * 50)
    assert demand.work_per_request == pytest.approx(30 * NEUTRAL.prompt + 10 * NEUTRAL.cached + 20 * NEUTRAL.completion)


def test_lost_polls_lose_nothing():
    whole, holed = LoadWindow(), LoadWindow()
    steady(whole, 60, rps=3)
    steady(holed, 60, rps=3, lost=range(40, 55))
    assert demand_at(holed, 60.0).arrival_rps == pytest.approx(demand_at(whole, 60.0).arrival_rps)


def test_gateway_processes_add_up():
    window = LoadWindow()
    steady(window, 60, rps=3)
    steady(window, 60, rps=2, process="g2")
    assert demand_at(window, 60.0).arrival_rps == pytest.approx(5.0)


def test_a_restarted_gateway_is_a_new_process_and_no_flood():
    window = LoadWindow()
    steady(window, 30, rps=3)
    for second in range(31, 61):
        window.gateway(report(float(second), "g1-again", arrived=3 * (second - 30)))
    assert demand_at(window, 60.0).arrival_rps == pytest.approx(3.0, rel=0.05)


def test_a_gateway_met_late_does_not_flood_with_its_past():
    window = LoadWindow()
    window.gateway(report(1_000.0, arrived=1_000_000))
    window.gateway(report(1_001.0, arrived=1_000_002))
    assert demand_at(window, 1_001.0).arrival_rps == pytest.approx(2.0)


def test_gauges_of_a_silent_gateway_count_no_more_and_it_is_named_silent():
    window = LoadWindow()
    window.gateway(report(0.0, "g1", in_flight=5, waiting=2))
    window.gateway(report(0.0, "g2", in_flight=7, waiting=1))
    window.gateway(report(20.0, "g1", in_flight=4, waiting=3))
    demand = demand_at(window, 20.0)
    assert (demand.in_flight, demand.waiting_in_gateway, demand.silent_gateways) == (4, 3, 1)


def test_without_any_gateway_nothing_is_known():
    assert demand_at(LoadWindow(), 5.0).report_age_s is None


def test_larger_bodies_count_before_their_requests_end():
    window = LoadWindow()
    for second in range(61):
        window.gateway(
            report(
                float(second),
                arrived=10 * second,
                admitted=10 * second,
                completed=10 * second,
                prompt_tokens=1_000 * second,
                body_bytes=4_000 * second,
            )
        )
    for second in range(61, 91):
        window.gateway(
            report(
                float(second),
                arrived=10 * second,
                admitted=10 * second,
                completed=600,
                prompt_tokens=60_000,
                body_bytes=240_000 + 40_000 * (second - 60),
            )
        )
    # Ten times the bytes a request; the mean over all bytes seen lags a little behind the last half minute.
    assert demand_at(window, 90.0).prompt_tokens > 200


def test_idleness_begins_when_the_last_request_is_gone():
    window = LoadWindow()
    window.gateway(report(0.0, in_flight=1))
    window.gateway(report(100.0, in_flight=1))
    window.gateway(report(150.0, arrived=0))
    assert demand_at(window, 150.0).idle_s == 50.0


def test_time_a_request_decodes_comes_from_streams():
    window = LoadWindow()
    buckets = [0] * (len(LATENCY_BUCKETS_S) + 1)
    window.gateway(report(0.0))
    buckets[3] = 10
    done = {"arrived": 10, "completed": 10, "completion_tokens": 1_000}
    window.gateway(report(1.0, tpot_s_sum=0.4, tpot_buckets=buckets, **done))
    assert demand_at(window, 1.0).seconds_per_request == pytest.approx(100 * 0.04)


def test_readings_are_means_of_the_fast_window_and_latest_gauges():
    window = LoadWindow()
    for second, usage in enumerate([0.1, 0.1, 0.1, 0.1, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]):
        window.engine("a", engine(kv_usage=usage, preemptions=2 * second, waiting_for_capacity=second), float(second))
    (reading,) = window.snapshot("tiny", 9.0, replicas=[("a", READY, 0.0)], target=1).readings
    assert reading.kv_usage == pytest.approx(0.75)
    assert reading.kv_usage_peak == 1.0
    assert reading.preemptions_per_s == pytest.approx(2.0)
    assert (reading.waiting_for_capacity, reading.reading_age_s) == (9, 0.0)


def test_what_a_request_holds_is_judged_from_readings_of_the_same_moments():
    window = LoadWindow()
    for second, running in enumerate([4, 4, 4, 4, 4, 1]):
        window.engine("a", engine(kv_usage=0.05 * running, running=running), float(second))
    (reading,) = window.snapshot("tiny", 5.0, replicas=[("a", READY, 0.0)], target=1).readings
    assert reading.kv_usage / reading.running == pytest.approx(0.05)


def test_a_replica_that_is_not_read_any_more_ages():
    window = LoadWindow()
    window.engine("a", engine(), 5.0)
    (reading,) = window.snapshot("tiny", 25.0, replicas=[("a", READY, 0.0)], target=1).readings
    assert reading.reading_age_s == 20.0
    window.lost("a")
    (reading,) = window.snapshot("tiny", 25.0, replicas=[("a", READY, 0.0)], target=1).readings
    assert reading.reading_age_s is None


def test_an_engine_that_began_again_has_no_negative_rates():
    window = LoadWindow()
    window.engine("a", engine(generation_tokens=900, preemptions=50), 0.0)
    window.engine("a", engine(generation_tokens=10, preemptions=0), 1.0)
    (reading,) = window.snapshot("tiny", 1.0, replicas=[("a", READY, 0.0)], target=1).readings
    assert reading.preemptions_per_s == 0.0


def test_cold_starts_are_measured_from_order_to_ready():
    window = LoadWindow()
    window.snapshot("tiny", 10.0, replicas=[("a", ReplicaPhase.STARTING, 8.0)], target=1)
    seen = window.snapshot("tiny", 80.0, replicas=[("a", READY, 78.0)], target=1)
    assert seen.cold_start_s == 70.0


def test_capacity_is_learnt_from_replicas_that_queue_for_compute():
    window = LoadWindow()
    replicas = [("a", READY, 0.0)]
    for second in range(40):
        window.engine("a", engine(generation_tokens=50 * second, waiting_for_capacity=3), float(second))
    learnt = window.snapshot("tiny", 40.0, replicas=replicas, target=1).capacity
    assert learnt.samples >= 5
    assert learnt.work_per_s == pytest.approx(50 * NEUTRAL.completion)


def test_no_capacity_is_learnt_while_kv_is_what_limits():
    window = LoadWindow()
    for second in range(40):
        load = engine(generation_tokens=50 * second, waiting_for_capacity=3, kv_usage=0.97)
        window.engine("a", load, float(second))
    assert window.snapshot("tiny", 40.0, replicas=[("a", READY, 0.0)], target=1).capacity.work_per_s is None


def test_a_replica_that_did_more_without_a_queue_can_do_more():
    window = LoadWindow()
    replicas = [("a", READY, 0.0)]
    tokens = 0
    for second in range(100):
        queued = second < 40
        tokens += 50 if queued else 80
        window.engine("a", engine(generation_tokens=tokens, waiting_for_capacity=3 if queued else 0), float(second))
    assert window.snapshot("tiny", 100.0, replicas=replicas, target=1).capacity.work_per_s == pytest.approx(
        80 * NEUTRAL.completion
    )


def test_what_was_learnt_an_hour_ago_is_forgotten():
    window = LoadWindow()
    replicas = [("a", READY, 0.0)]
    for second in range(40):
        window.engine("a", engine(generation_tokens=50 * second, waiting_for_capacity=3), float(second))
    assert window.snapshot("tiny", 3_700.0, replicas=replicas, target=1).capacity.work_per_s is None


def test_the_mean_request_of_quiet_times_is_that_of_the_last_minutes_and_no_older():
    window = LoadWindow()
    steady(window, 60, rps=3)
    last = {
        "arrived": 180,
        "completed": 180,
        "prompt_tokens": 7_200,
        "cached_tokens": 1_800,
        "completion_tokens": 3_600,
    }
    window.gateway(report(200.0, **last))
    assert demand_at(window, 200.0).completion_tokens == 20
    for second in range(201, 206):
        done = {"arrived": 180 + second - 200, "completed": 180 + second - 200, "prompt_tokens": 7_200}
        window.gateway(report(float(second) + 600, **done, cached_tokens=1_800, completion_tokens=3_600 + second - 200))
    demand = demand_at(window, 900.0)
    assert (demand.completion_tokens, demand.completed_requests) == (1.0, 5)
