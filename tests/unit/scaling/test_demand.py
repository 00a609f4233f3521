"""Forecasts, and shares of streams within an objective."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.routing.load import LATENCY_BUCKETS_S
from penstock.scaling.bounds import attained
from penstock.scaling.demand import MAX_GROWTH, forecast
from penstock.scaling.snapshot import Demand

rates = st.floats(0, 1_000)


def test_a_rise_is_carried_on_over_a_cold_start():
    # 12 s lie between the middles of windows of 30 and 6 s: 1 request/s more every 3 s.
    ahead = forecast(Demand(arrival_rps=10.0, fast_arrival_rps=14.0), 30.0, panic=False)
    assert (ahead.rps, ahead.rising) == (pytest.approx(24.0), True)


def test_a_rise_that_chance_explains_is_none():
    ahead = forecast(Demand(arrival_rps=1.0, fast_arrival_rps=1.5), 60.0, panic=False)
    assert (ahead.rps, ahead.rising) == (1.0, False)


def test_a_fall_is_not_carried_on():
    assert forecast(Demand(arrival_rps=10.0, fast_arrival_rps=1.0), 60.0, panic=False).rps == 10.0


def test_panic_believes_the_fast_window():
    demand = Demand(arrival_rps=1.0, fast_arrival_rps=1.5)
    assert forecast(demand, 0.0, panic=True).rps == 1.5


@settings(deadline=None)
@given(rates, rates, st.floats(0, 3_600), st.booleans())
def test_a_forecast_lies_between_the_present_and_twice_the_fast_rate(stable, fast, lead_s, panic):
    ahead = forecast(Demand(arrival_rps=stable, fast_arrival_rps=fast), lead_s, panic=panic)
    assert stable <= ahead.rps <= max(stable, MAX_GROWTH * fast)


def test_counts_are_spread_evenly_within_the_bucket_of_the_objective():
    buckets = [0] * (len(LATENCY_BUCKETS_S) + 1)
    buckets[LATENCY_BUCKETS_S.index(0.5)] = 10
    assert attained(tuple(buckets), 0.425) == pytest.approx(0.5)
    assert attained(tuple(buckets), 0.5) == pytest.approx(1.0)
    assert attained(tuple(buckets), 0.3) == pytest.approx(0.0)


def test_streams_beyond_the_last_bucket_miss_every_objective():
    beyond = (*[0] * len(LATENCY_BUCKETS_S), 4)
    assert attained(beyond, 600.0) == 0.0


def test_no_streams_no_share():
    assert attained((), 1.0) is None
