"""A report adds up."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_loadtest.records import Outcome, RequestRecord, read_records
from penstock_loadtest.report import LoadReport, summarise_records

seconds = st.floats(min_value=0, max_value=20)


@st.composite
def records(draw):
    duration_s = draw(seconds)
    first = draw(st.none() | st.floats(min_value=0, max_value=1))
    return RequestRecord(
        start_s=1_700_000_000 + draw(seconds),
        duration_s=duration_s,
        outcome=draw(st.sampled_from(Outcome)),
        ttft_s=None if first is None else first * duration_s,
        completion_tokens=draw(st.integers(min_value=0, max_value=500)),
        error_code=draw(st.sampled_from(["", "overloaded"])),
    )


@given(st.lists(records(), max_size=30))
def test_counts_and_timeline_add_up(found):
    report = summarise_records(found)
    counts = report.requests
    assert counts.total == len(found) == counts.complete + counts.failed + counts.abandoned
    assert counts.failed == sum(counts.by_cause.values()) >= counts.failed_clean
    assert sum(second.started for second in report.timeline) == counts.total
    assert sum(second.complete for second in report.timeline) == counts.complete
    assert sum(second.failed for second in report.timeline) == counts.failed
    assert sum(second.tokens for second in report.timeline) == pytest.approx(report.completion_tokens)
    assert sum(second.in_flight for second in report.timeline) == pytest.approx(
        sum(record.duration_s for record in found), abs=1e-3
    )
    assert [second.t_s for second in report.timeline] == list(range(len(report.timeline)))


def test_quantiles_are_of_complete_requests_only():
    good = RequestRecord(
        start_s=0, duration_s=2, outcome=Outcome.COMPLETE, ttft_s=0.1, tpot_s=0.02, completion_tokens=90
    )
    slow = RequestRecord(start_s=1, duration_s=9, outcome=Outcome.TIMED_OUT, ttft_s=8.0, completion_tokens=10)
    report = summarise_records([slow, good])
    assert report.ttft_ms.max == pytest.approx(100)
    assert report.tpot_ms.p99 == pytest.approx(20)
    assert report.latency_ms.count == 1
    assert report.duration_s == 10
    assert report.tokens_per_s == pytest.approx(10)


def test_causes_carry_the_code():
    shed = RequestRecord(start_s=0, duration_s=0, outcome=Outcome.ERROR_ANSWER, error_code="overloaded")
    lost = RequestRecord(start_s=0, duration_s=0, outcome=Outcome.CONNECTION_LOST)
    counts = summarise_records([shed, lost, shed]).requests
    assert counts.by_cause == {"ErrorAnswer:overloaded": 2, "ConnectionLost": 1}
    assert counts.failed_clean == 2


def test_an_empty_run_is_a_report_too():
    report = summarise_records([])
    assert report.requests.total == 0
    assert report.timeline == ()
    assert msgspec.json.decode(msgspec.json.encode(report), type=LoadReport) == report


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    path = tmp_path / "records.jsonl"
    line = json.dumps({"start_s": 1.0, "duration_s": 2.0, "outcome": "Complete"})
    path.write_text(f"{line}\n{line[:20]}")
    assert [record.outcome for record in read_records(path)] == [Outcome.COMPLETE]
