"""The meter's readings: seldom, never less than what was seen, and the last sight of a replica that ended."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from penstock.cost.records import MeterReading
from penstock.engines.base import EngineLoad
from penstock_operator.pool.loads import Reading
from penstock_operator.pool.meter import Meter
from tests.unit.operator.pool.makers import life


def reading(at_s: float, started_s: float | None = 100.0) -> Reading:
    load = EngineLoad(
        kv_usage=0.0,
        running=0,
        waiting=0,
        waiting_for_capacity=0,
        preemptions=0,
        prompt_tokens=0,
        generation_tokens=0,
        prefix_queries=0,
        prefix_hits=0,
        started_s=started_s,
    )
    return Reading(load, at_s)


def metered(times_s: Sequence[float]) -> list[MeterReading]:
    told: list[MeterReading] = []
    meter = Meter(told.append)
    for at_s in times_s:
        meter.take(life("r1"), reading(at_s))
    meter.forget("r1")
    return told


def test_a_first_answer_is_written_at_once_and_later_ones_every_ten_seconds():
    told = metered([150.0, 151.0, 155.0, 160.0, 169.0])
    assert [one.seen_s for one in told] == [150.0, 160.0, 169.0]
    assert {(one.replica, one.began_s, one.usd_per_hour) for one in told} == {
        ("r1", 100.0, str(life("r1").application.usd_per_hour))
    }


@given(st.lists(st.floats(min_value=100.0, max_value=1e6), min_size=1).map(sorted))
def test_the_last_sight_of_a_replica_is_always_written(times_s: list[float]):
    told = metered(times_s)
    assert told[-1].seen_s == times_s[-1]
    assert all(later.seen_s > earlier.seen_s for earlier, later in pairwise(told))


def test_an_engine_that_does_not_say_when_it_began_is_not_metered():
    told: list[MeterReading] = []
    meter = Meter(told.append)
    meter.take(life("r1"), reading(150.0, started_s=None))
    meter.forget("r1")
    assert told == []


def test_a_machine_whose_clock_is_ahead_never_makes_a_life_negative():
    told: list[MeterReading] = []
    Meter(told.append).take(life("r1"), reading(150.0, started_s=151.0))
    assert (told[0].began_s, told[0].seen_s) == (150.0, 150.0)
