"""Worked examples at a dollar a second, so that amounts are seconds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.cost.attribution import Attribution, Category, Cause, Window, attribute
from penstock.cost.books import TENANT, Lines, add_lines
from penstock.cost.money import PICOUSD_PER_USD, to_ns
from penstock.cost.records import Outcome, ReplicaEvent, UsageRecord
from penstock.cost.timeline import minimum_spans, timelines_of
from penstock.performance.work import WorkWeights
from tests.unit.cost.builders import life, usage

WEIGHTS = WorkWeights(prompt=1.0, completion=10.0, cached=0.25, provenance="round numbers")


def attribution_of(
    events: Sequence[ReplicaEvent],
    records: Sequence[UsageRecord] = (),
    *,
    since: float = 0.0,
    known: float = 1000.0,
    until: float | None = None,
    replica: str = "r1",
) -> Attribution:
    timelines = timelines_of(events)
    window = Window(to_ns(since), to_ns(known), to_ns(known if until is None else until))
    own = [record for record in records if record.replica == replica]
    return attribute(timelines[replica], own, window, minimum=minimum_spans(timelines)[replica], weights=WEIGHTS)


def seconds(attribution: Attribution) -> list[tuple[str, str | None, float, float]]:
    return [
        (segment.category.value, segment.cause and segment.cause.value, segment.start_ns / 1e9, segment.end_ns / 1e9)
        for segment in attribution.segments
    ]


def shares(attribution: Attribution) -> dict[str, tuple[float, float, float]]:
    return {
        receipt.record.id: tuple(
            amount / PICOUSD_PER_USD
            for amount in (receipt.share.prompt, receipt.share.cached, receipt.share.completion)
        )
        for receipt in attribution.receipts
    }


def test_two_requests_share_the_seconds_that_they_have_together() -> None:
    # a: prompt work 10 in [0, 10), i.e. 1/s; completion work 10 x 4 in [10, 20), i.e. 4/s.
    # b: prompt work 10 in [5, 10), i.e. 2/s; completion work 10 x 1 in [10, 15), i.e. 2/s.
    records = [
        usage("a", 0, 20, first_s=10, prompt=10, completion=4),
        usage("b", 5, 15, first_s=10, prompt=10, completion=1),
    ]
    result = attribution_of(life(start=0, ready=0, end=20), records)
    # [0,5) a alone: 5. [5,10) 1:2 -> a 5/3, b 10/3. [10,15) 4:2 -> a 10/3, b 5/3. [15,20) a alone: 5.
    assert shares(result)["a"] == pytest.approx((5 + 5 / 3, 0, 5 + 10 / 3), abs=1e-11)
    assert shares(result)["b"] == pytest.approx((10 / 3, 0, 5 / 3), abs=1e-11)
    assert result.cost_picousd == 20 * PICOUSD_PER_USD


def test_prompt_time_is_split_between_cached_and_uncached_tokens() -> None:
    # Uncached work 20 - 16 = 4, cached work 16 x 0.25 = 4: half of the two prompt seconds each.
    result = attribution_of(
        life(start=0, ready=0, end=3), [usage("a", 0, 3, first_s=2, prompt=20, cached=16, completion=5)]
    )
    assert shares(result) == {"a": (1.0, 1.0, 1.0)}


def test_an_answer_that_is_not_streamed_spreads_all_its_work() -> None:
    result = attribution_of(life(start=0, ready=0, end=4), [usage("a", 0, 4, prompt=30, completion=1)])
    assert shares(result) == {"a": (3.0, 0.0, 1.0)}


def test_a_request_without_tokens_still_pays_for_having_the_replica_alone() -> None:
    result = attribution_of(life(start=0, ready=0, end=4), [usage("a", 0, 4, prompt=0, completion=0)])
    assert shares(result) == {"a": (4.0, 0.0, 0.0)}


def test_a_replica_of_the_minimum_goes_through_its_life() -> None:
    result = attribution_of(
        life(start=10, ready=25, drain=60, end=70), [usage("a", 30, 40), usage("b", 58, 63)], known=100
    )
    assert seconds(result) == [
        ("overhead", "cold_start", 10, 25),
        ("idle", "min_replicas", 25, 30),
        ("busy", None, 30, 40),
        ("idle", "min_replicas", 40, 58),
        ("busy", None, 58, 63),
        ("idle", "drain", 63, 70),
    ]


def test_idle_beyond_the_minimum_is_headroom_at_first_and_cooldown_after_five_seconds() -> None:
    events = [*life(start=0, ready=0), *life(start=0, ready=10, drain=50, end=50, replica="r2", cause="KVBound")]
    result = attribution_of(events, [usage("a", 12, 20, replica="r2")], replica="r2")
    assert seconds(result) == [
        ("overhead", "cold_start", 0, 10),
        ("idle", "headroom", 10, 12),
        ("busy", None, 12, 20),
        ("idle", "headroom", 20, 25),
        ("idle", "cooldown", 25, 50),
    ]


def test_the_replica_that_stays_takes_over_the_minimum() -> None:
    # Ray drains whichever it likes: here the one that the minimum had started.
    events = [
        *life(start=0, ready=1, drain=30, end=35),
        *life(start=0, ready=10, end=50, replica="r2", cause="KVBound"),
    ]
    assert seconds(attribution_of(events, replica="r2"))[1:] == [
        ("idle", "headroom", 10, 15),
        ("idle", "cooldown", 15, 30),
        ("idle", "min_replicas", 30, 50),
    ]


def test_a_replacement_is_recovery_until_its_first_request() -> None:
    events = [
        *life(start=0, ready=1, end=200),
        *life(start=100, ready=110, end=140, replica="r2", cause="Recovery"),
    ]
    assert seconds(attribution_of(events, [usage("a", 120, 130, replica="r2")], replica="r2")) == [
        ("overhead", "recovery", 100, 110),
        ("idle", "recovery", 110, 120),
        ("busy", None, 120, 130),
        ("idle", "headroom", 130, 135),
        ("idle", "cooldown", 135, 140),
    ]


def test_a_model_without_a_minimum_has_no_idle_on_its_account() -> None:
    assert seconds(attribution_of(life(start=0, ready=0, end=9, cause="KVBound"))) == [
        ("idle", "headroom", 0, 5),
        ("idle", "cooldown", 5, 9),
    ]


def test_a_replica_that_ends_before_it_is_ready_is_a_failed_start() -> None:
    assert seconds(attribution_of(life(start=5, end=9))) == [("overhead", "failed_start", 5, 9)]


def test_a_start_that_is_called_off_is_no_failure() -> None:
    assert seconds(attribution_of(life(start=5, drain=7, end=9))) == [
        ("overhead", "cold_start", 5, 7),
        ("overhead", "cold_start", 7, 9),
    ]


def test_a_failed_requests_share_is_overhead_and_its_tokens_count_for_nobody() -> None:
    result = attribution_of(
        life(start=0, ready=0, end=4),
        [usage("a", 0, 4), usage("b", 0, 4, outcome=Outcome.FAILED), usage("c", 0, 4, outcome=Outcome.CANCELLED)],
    )
    lines: Lines = {}
    add_lines(lines, [result])
    failed = sum(amount.picousd for key, amount in lines.items() if key.name == Cause.FAILED)
    tenant = [amount for key, amount in lines.items() if key.bearer == TENANT]
    assert failed == pytest.approx(4 / 3 * PICOUSD_PER_USD, abs=5)
    assert sum(amount.picousd for amount in tenant) == 4 * PICOUSD_PER_USD - failed
    assert sum(amount.tokens for amount in tenant) == 22


def test_what_is_not_known_yet_is_pending_and_not_idle() -> None:
    result = attribution_of(life(start=0, ready=0), [usage("a", 2, 4), usage("b", 5, 9)], known=6, until=10)
    assert seconds(result)[-3:] == [("idle", "min_replicas", 4, 5), ("busy", None, 5, 6), ("pending", None, 6, 10)]
    assert [receipt.ended for receipt in result.receipts] == [True, False]


def test_a_request_past_its_replicas_end_is_charged_up_to_the_end_and_counted() -> None:
    result = attribution_of(
        life(start=10, ready=10, end=20), [usage("a", 5, 12), usage("b", 18, 25), usage("c", 30, 31)]
    )
    assert {name: sum(parts) for name, parts in shares(result).items()} == {"a": 2.0, "b": 2.0, "c": 0.0}
    assert result.clipped_records == 3
    assert all(receipt.ended for receipt in result.receipts)


def test_events_out_of_order_are_put_in_order() -> None:
    assert seconds(attribution_of(life(start=10, ready=8, end=12))) == [("idle", "min_replicas", 10, 12)]
    assert timelines_of(life(start=10, ready=8, end=12))["r1"].mended == 1
    assert timelines_of(life(ready=8, end=12))["r1"].start_ns == to_ns(8)


def test_a_weightless_request_does_not_blur_the_shares_of_those_after_it() -> None:
    records = [
        usage("a", 0, 10, prompt=0, completion=0),
        usage("b", 10, 11),
        usage("c", 10, 11, prompt=30, completion=3),
    ]
    result = attribution_of(life(start=0, ready=0, end=11), records)
    assert {name: sum(parts) for name, parts in shares(result).items()} == {"a": 10.0, "b": 0.25, "c": 0.75}


# --- the law ----------------------------------------------------------------------------------------------------------

MOMENT = st.integers(0, 400).map(lambda tenths: 1_700_000_000 + tenths / 10)
MAYBE = st.none() | MOMENT


@st.composite
def any_usage(draw: st.DrawFn) -> UsageRecord:
    return usage(
        draw(st.uuids()).hex,
        draw(MOMENT),
        draw(MOMENT),
        first_s=draw(MAYBE),
        prompt=draw(st.integers(0, 5000)),
        cached=draw(st.integers(0, 5000)),
        completion=draw(st.integers(0, 5000)),
        tenant=draw(st.sampled_from(["acme", "beta"])),
        outcome=draw(st.sampled_from(Outcome)),
    )


LIVES = st.builds(
    life,
    start=MAYBE,
    ready=MAYBE,
    drain=MAYBE,
    end=MAYBE,
    cause=st.sampled_from(["MinReplicas", "KVBound", "Recovery"]),
    usd_per_hour=st.sampled_from(["0", "2", "2.99", "98.32", "0.000000000001"]),
).filter(bool)


@settings(max_examples=400, deadline=None)
@given(LIVES, st.lists(any_usage(), max_size=12), st.lists(MOMENT, min_size=1, max_size=4))
def test_receipts_idle_and_overhead_add_up_to_the_bill(
    events: list[ReplicaEvent], records: list[UsageRecord], cuts: list[float]
) -> None:
    timeline = timelines_of(events)["r1"]
    edges = sorted({0.0, *cuts})
    last_ns = to_ns(edges[-1])
    lines: Lines = {}
    receipts = 0
    last_busy_ns = None
    covered: list[tuple[int, int]] = []
    for low, high in itertools.pairwise(edges):
        window = Window(to_ns(low), to_ns(high), to_ns(high))
        result = attribute(timeline, records, window, last_busy_ns=last_busy_ns, weights=WEIGHTS)
        last_busy_ns = result.last_busy_ns
        busy = sum(one.cost_picousd for one in result.segments if one.category is Category.BUSY)
        assert busy == sum(one.share.total for one in result.receipts)
        assert all(min(one.share.prompt, one.share.cached, one.share.completion) >= 0 for one in result.receipts)
        receipts += sum(one.ended for one in result.receipts)
        covered += [(one.start_ns, one.end_ns) for one in result.segments]
        add_lines(lines, [result])
        if timeline.end_ns is not None and timeline.end_ns <= window.known_ns:
            break
    end_ns = last_ns if timeline.end_ns is None else min(last_ns, timeline.end_ns)
    # Segments tile the life: no gap, no overlap.
    assert all(left[1] == right[0] for left, right in itertools.pairwise(covered))
    assert sum(high - low for low, high in covered) == max(0, end_ns - timeline.start_ns)
    bill = timeline.price_picousd_per_hour * max(0, end_ns - timeline.start_ns) // (3600 * 10**9)
    assert sum(amount.picousd for amount in lines.values()) == bill
    # Every request's tokens are counted once, in one window, if the last window reaches its end.
    if timeline.end_ns is not None and timeline.end_ns <= last_ns:
        assert receipts == len(records)
    assert receipts <= len(records)


@settings(max_examples=100, deadline=None)
@given(st.lists(any_usage(), min_size=1, max_size=12), MOMENT)
def test_windows_that_follow_each_other_add_up_to_one(records: list[UsageRecord], cut: float) -> None:
    timeline = timelines_of(life(start=1_700_000_000, ready=1_700_000_000, end=1_700_000_040))["r1"]
    edges = [0, to_ns(cut), to_ns(1_700_000_100)]
    owed: dict[str, int] = {}
    for low, high in itertools.pairwise(edges):
        for one in attribute(timeline, records, Window(low, high, high), weights=WEIGHTS).receipts:
            owed[one.record.id] = owed.get(one.record.id, 0) + one.share.total
    whole = attribute(timeline, records, Window(edges[0], edges[2], edges[2]), weights=WEIGHTS)
    for one in whole.receipts:
        assert owed.get(one.record.id, 0) == pytest.approx(one.share.total, abs=1000)  # a nanodollar
