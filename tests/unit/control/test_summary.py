"""Figures of the status come from counters and histograms, and say nothing where nothing is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.rates import TokenRates
from penstock.control.status import Condition, ConditionType, ModelStatus, PlatformStatus
from penstock.control.summary import bucket_quantile
from penstock.control.view import age, attention, is_ready, row, trouble
from penstock.engines.base import EngineLoad
from penstock.routing.load import LATENCY_BUCKETS_S


def load(prompt: int, generation: int) -> EngineLoad:
    return EngineLoad(
        kv_usage=0.5,
        running=1,
        waiting=0,
        waiting_for_capacity=0,
        preemptions=0,
        prompt_tokens=prompt,
        generation_tokens=generation,
        prefix_queries=0,
        prefix_hits=0,
    )


def test_rates_are_differences_over_the_window_of_each_replica():
    rates = TokenRates()
    for second in range(20):
        rates.take("a", load(10 * second, 100 * second), float(second))
    rates.take("b", load(10**6, 10**6), 19.0)
    assert rates.per_second(["a", "b", "unknown"]) == (10.0, 100.0)
    rates.forget("a")
    assert rates.per_second(["a"]) == (0.0, 0.0)


def test_an_engine_that_began_again_has_no_negative_rate():
    rates = TokenRates()
    rates.take("a", load(500, 500), 1.0)
    rates.take("a", load(0, 0), 2.0)
    assert rates.per_second(["a"]) == (0.0, 0.0)


def test_a_quantile_of_nothing_is_unknown():
    assert bucket_quantile([], 0.95) is None
    assert bucket_quantile([0] * 18, 0.95) is None


@given(st.lists(st.integers(0, 50), min_size=18, max_size=18).filter(any), st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_bucket_that_holds_its_rank(counts, quantile):
    value = bucket_quantile(counts, quantile)
    assert value is not None
    below = sum(count for count, bound in zip(counts, LATENCY_BUCKETS_S, strict=False) if bound < value)
    upto = sum(count for count, bound in zip(counts, (0.0, *LATENCY_BUCKETS_S[:-1]), strict=False) if bound < value)
    assert below <= quantile * sum(counts) + 1e-9
    assert upto + 1e-9 >= min(quantile * sum(counts), sum(counts[:-1]))


def model(**changes) -> ModelStatus:
    values = {"name": "tiny", "target": 2, "ready": 1, "starting": 1, "draining": 0, "replicas": (), "conditions": ()}
    return ModelStatus(**(values | changes))


def said(kind, status, reason="R", message="m") -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message, since_s=0.0)


def test_a_row_says_what_is_known_and_dashes_for_the_rest():
    assert row(model(why="KVBound"), 45.0) == ("tiny", "1/2", "-", "0", "-", "0", "-", "-", "", "45s")
    known = model(
        conditions=(said(ConditionType.READY, status=True),),
        kv_usage=0.97,
        queue=3,
        ttft_p95_s=0.2,
        completion_tokens_per_s=1234.0,
        usd_per_million_tokens=0.5,
        idle_share=0.25,
        why="KVBound",
    )
    assert row(known, 0.0)[1:] == ("1/2", "97%", "3", "200ms", "1,234", "0.50", "25%", "KVBound", "0s")


def test_trouble_is_what_somebody_must_mend():
    failed = model(
        conditions=(
            said(ConditionType.READY, status=False),
            said(ConditionType.DEGRADED, True, "WeightsMissing", "look"),
        )
    )
    hurt = model(conditions=(said(ConditionType.READY, status=True), said(ConditionType.DEGRADED, True, "EngineDied")))
    assert (trouble(failed), is_ready(failed)) == ("WeightsMissing: look", False)
    assert (trouble(hurt), is_ready(hurt)) == (None, True)
    status = PlatformStatus(
        at_s=0, started_s=0, pid=1, data_url="", admin_url="", metrics_url="", dashboard_url="", phase="Running",
        message="a.yaml:3: wrong", models=(failed, hurt),
    )  # fmt: skip
    assert attention(status) == ["a.yaml:3: wrong", "tiny: WeightsMissing: look", "tiny: EngineDied: m"]


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200000, "2d")])
def test_ages_are_told_as_kubectl_does(seconds, shown):
    assert age(seconds) == shown
