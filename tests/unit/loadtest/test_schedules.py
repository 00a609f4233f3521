"""Schedules say how much load there is, and arrivals drawn from them keep to it."""

# ruff: noqa: S311 - seeds are the point

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_loadtest.errors import LoadSettingsError
from penstock_loadtest.schedules import (
    Segment,
    burst,
    constant,
    expected_arrivals,
    length_s,
    level_at,
    poisson_arrivals,
    ramp,
)

levels = st.floats(min_value=0, max_value=50)
durations = st.floats(min_value=0.1, max_value=100)
segments = st.builds(Segment, duration_s=durations, level=levels, end_level=levels)
schedules = st.lists(segments, min_size=1, max_size=5).map(tuple)


@given(segments, st.floats(min_value=0, max_value=1))
def test_time_of_area_inverts_the_area(segment, share):
    seconds = segment.time_of_area(share * segment.area)
    part = Segment(duration_s=max(seconds, 1e-9), level=segment.level, end_level=segment.level_after(seconds))
    assert 0 <= seconds <= segment.duration_s
    assert part.area == pytest.approx(share * segment.area, rel=1e-6, abs=1e-6)


def test_a_level_next_to_nothing_is_no_division_by_zero():
    segment = Segment(duration_s=10.0, level=0.0, end_level=1e-200)
    assert 0 <= segment.time_of_area(segment.area / 2) <= 10.0


@given(schedules, st.integers())
def test_arrivals_come_in_order_within_the_schedule(schedule, seed):
    times = list(poisson_arrivals(schedule, random.Random(seed)))
    assert times == sorted(times)
    assert all(0 <= at <= length_s(schedule) + 1e-9 for at in times)


@given(schedules, st.integers())
def test_the_number_of_arrivals_is_the_area(schedule, seed):
    mean = expected_arrivals(schedule)
    count = sum(1 for _ in poisson_arrivals(schedule, random.Random(seed)))
    # Six standard deviations, and room for the skew of small means.
    assert abs(count - mean) <= 6 * math.sqrt(mean) + 20


def test_a_ramp_draws_its_second_half_three_times_as_often():
    times = list(poisson_arrivals(ramp(0, 40, 100), random.Random(7)))
    late = sum(at > 50 for at in times)
    assert late / (len(times) - late) == pytest.approx(3, rel=0.15)


def test_the_same_seed_draws_the_same_arrivals():
    first, again, other = (list(poisson_arrivals(constant(5, 20), random.Random(seed))) for seed in (1, 1, 2))
    assert first == again != other


def test_levels_follow_the_shape():
    schedule = ramp(2, 10, 4, hold_s=6)
    assert [level_at(schedule, at) for at in (0, 2, 4, 9.9, 10)] == [2, 6, 10, 10, None]


@given(st.floats(min_value=0.5, max_value=200))
def test_bursts_fill_exactly_the_duration(duration_s):
    schedule = burst(1, 9, period_s=10, burst_s=2, duration_s=duration_s)
    assert length_s(schedule) == pytest.approx(duration_s)
    assert {segment.level for segment in schedule} <= {1, 9}


def test_a_burst_ends_each_period():
    schedule = burst(1, 9, period_s=10, burst_s=2, duration_s=20)
    assert [level_at(schedule, at) for at in (0, 7.9, 8, 9.9, 10, 18.5)] == [1, 1, 9, 9, 1, 9]
    assert expected_arrivals(schedule) == pytest.approx(2 * (8 * 1 + 2 * 9))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: constant(1, 0), "duration"),
        (lambda: constant(1, math.inf), "duration"),
        (lambda: constant(-1, 5), "negative"),
        (lambda: constant(0, 5), "above 0"),
        (lambda: burst(1, 2, period_s=5, burst_s=5, duration_s=5), "burst"),
    ],
)
def test_impossible_schedules_are_refused(make, word):
    with pytest.raises(LoadSettingsError, match=word):
        make()
