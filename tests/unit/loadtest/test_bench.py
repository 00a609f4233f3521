"""Benchmark rows, tables, and the traffic and meter check of the gateway benchmark."""

import io
import json

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from penstock.cost.records import Outcome as UsageOutcome
from penstock.cost.records import UsageRecord
from penstock_loadtest.bench.cli import command
from penstock_loadtest.bench.gateway.compare import choose_subjects
from penstock_loadtest.bench.gateway.metering import check_meter, expected_totals, metered_totals
from penstock_loadtest.bench.gateway.traffic import (
    MARKER,
    MARKER_DIGITS,
    TrafficPlan,
    key_of,
    make_traffic,
    tenant_name,
)
from penstock_loadtest.bench.machine import describe_machine
from penstock_loadtest.bench.records import (
    BenchReport,
    Metric,
    Outcome,
    Sample,
    ratio_to_baseline,
    summarise_samples,
)
from penstock_loadtest.bench.registry import BENCHMARKS, choose_benchmarks, load_runner
from penstock_loadtest.bench.session import write_report
from penstock_loadtest.bench.table import print_outcome
from penstock_loadtest.errors import LoadSettingsError, WrongAnswerError

SMALL = TrafficPlan(seed=5, keys=7, models=3, unary=40, streams=20)


def samples(subject, metric, *values):
    return [Sample(subject=subject, metric=metric, unit="u", value=value) for value in values]


@given(st.lists(st.floats(min_value=0.1, max_value=1e6), min_size=1, max_size=9))
def test_a_row_is_median_and_extremes(values):
    (row,) = summarise_samples("b", samples("s", "m", *values))
    assert (row.min, row.max, row.rounds) == (min(values), max(values), len(values))
    assert row.min <= row.median <= row.max


def test_rows_have_exactly_the_agreed_fields():
    (row,) = summarise_samples("gateway", samples("nginx", "unary_rps", 3, 1, 2))
    assert json.loads(msgspec.json.encode(row)) == {
        "bench": "gateway", "subject": "nginx", "metric": "unary_rps", "unit": "u",
        "median": 2, "min": 1, "max": 3, "rounds": 3,
    }  # fmt: skip


def test_ratios_are_to_the_baseline_of_the_same_metric():
    rows = summarise_samples("b", samples("x", "m", 6) + samples("y", "m", 4) + samples("y", "other", 100))
    assert ratio_to_baseline(rows[0], rows, "y") == 1.5
    assert ratio_to_baseline(rows[0], rows, "absent") is None
    below = summarise_samples("b", samples("x", "m", -1) + samples("y", "m", 4))
    assert ratio_to_baseline(below[0], below, "y") is None


def test_the_table_shows_values_ratios_and_what_is_left_out():
    rows = summarise_samples("b", samples("x", "m", 30) + samples("y", "m", 20))
    outcome = Outcome(
        bench="b", rows=rows, baseline="y", metrics=(Metric(name="m", meaning="how much"),), versions={"x": "9.9"},
        leaves_out=("weather [all of it]",), notes=("it rained",),
    )  # fmt: skip
    text = io.StringIO()
    print_outcome(Console(file=text, width=100), outcome, describe_machine())
    for part in ("30.0", "1.50x", "to y", "x 9.9", "how much", "it rained", "weather [all of it]"):
        assert part in text.getvalue()


def test_a_report_is_written_with_machine_and_versions(tmp_path):
    report = BenchReport(
        rows=summarise_samples("b", samples("x", "m", 1)), machine=describe_machine(), versions={"x": "1"},
        started="2026-01-01T00:00:00+00:00", notes=(), leaves_out=(),
    )  # fmt: skip
    write_report(report, tmp_path / "deep" / "bench.json")
    found = json.loads((tmp_path / "deep" / "bench.json").read_text())
    assert found["rows"][0]["subject"] == "x"
    assert found["machine"]["cores"] >= 1
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["bench.json"]


def test_every_registered_benchmark_can_be_loaded():
    assert all(callable(load_runner(name)) for name in BENCHMARKS)
    assert choose_benchmarks([]) == list(BENCHMARKS)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["gatewy"], "benchmark 'gatewy' is unknown"),
        (["gateway", "--subjects", "apache"], "subject 'apache' is unknown"),
    ],
)
def test_unknown_names_end_with_code_2_and_say_what_there_is(arguments, word):
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert word in result.output
    assert "gateway" in result.output


def test_all_subjects_run_unless_some_are_named():
    assert [s.name for s in choose_subjects([])] == ["nginx", "vllm-router", "penstock"]
    assert [s.name for s in choose_subjects(["penstock", "nginx"])] == ["nginx", "penstock"]


def test_the_same_plan_makes_the_same_traffic():
    assert make_traffic(SMALL) == make_traffic(SMALL)
    assert make_traffic(SMALL) != make_traffic(msgspec.structs.replace(SMALL, seed=6))


def test_each_request_names_its_row_and_its_answer_reports_its_usage():
    for index, exchange in enumerate(make_traffic(SMALL)):
        head, _, body = exchange.request.partition(b"\r\n\r\n")
        fields = json.loads(body)
        assert exchange.index == index
        assert body.count(MARKER) == 1
        assert exchange.content in body
        assert int(body[body.find(MARKER) + 2 :][:MARKER_DIGITS]) == index
        assert f"Content-Length: {len(body)}".encode() in head
        assert any(key_of(n).encode() in head and exchange.tenant == tenant_name(n) for n in range(SMALL.keys))
        assert fields["model"] == exchange.model
        assert exchange.streamed == (index >= SMALL.unary) == fields.get("stream", False)
        assert exchange.wants_usage == ("stream_options" in fields)
        assert (b'"usage"' in exchange.body) == (exchange.wants_usage or not exchange.streamed)
        usage_in = exchange.usage_event if exchange.streamed else exchange.body
        assert f'"completion_tokens":{exchange.completion_tokens}'.encode() in usage_in


def test_bodies_have_many_sizes():
    sizes = [len(e.request) for e in make_traffic(TrafficPlan(unary=400, streams=0))]
    assert min(sizes) < 600
    assert max(sizes) > 20_000


def usage(exchange, number, **changed):
    fields = {
        "id": f"r{number}", "tenant": exchange.tenant, "route": exchange.model, "model": exchange.model, "variant": "v",
        "replica": "p", "start_s": 0.0, "first_token_s": None, "end_s": 1.0, "prompt_tokens": exchange.prompt_tokens,
        "cached_tokens": 0, "completion_tokens": exchange.completion_tokens, "outcome": UsageOutcome.COMPLETE,
        "partial": False,
    }  # fmt: skip
    return UsageRecord(**{**fields, **changed})


def spool_of(tmp_path, found):
    lines = b"".join(msgspec.json.encode(record) + b"\n" for record in found)
    (tmp_path / "gateway-1.jsonl").write_bytes(lines)
    return tmp_path


def test_a_meter_that_agrees_passes(tmp_path):
    traffic = make_traffic(SMALL)
    counts = {3: 2, 45: 1}
    found = [usage(traffic[3], 0), usage(traffic[45], 1), usage(traffic[3], 2)]
    check_meter(expected_totals(traffic, counts), metered_totals(spool_of(tmp_path, found)))


@pytest.mark.parametrize("changed", [{"completion_tokens": 1000}, {"tenant": "someone-else"}, {"prompt_tokens": 0}])
def test_a_meter_that_differs_anywhere_fails(tmp_path, changed):
    traffic = make_traffic(SMALL)
    found = spool_of(tmp_path, [usage(traffic[3], 0, **changed)])
    with pytest.raises(WrongAnswerError, match="the meter and the upstream differ"):
        check_meter(expected_totals(traffic, {3: 1}), metered_totals(found))


@pytest.mark.parametrize("found", [[], [0, 1]])
def test_a_lost_or_doubled_record_fails(tmp_path, found):
    traffic = make_traffic(SMALL)
    spool = spool_of(tmp_path, [usage(traffic[3], number) for number in found])
    with pytest.raises(WrongAnswerError, match="requests"):
        check_meter(expected_totals(traffic, {3: 1}), metered_totals(spool))


def test_a_record_of_a_failure_fails(tmp_path):
    spool = spool_of(tmp_path, [usage(make_traffic(SMALL)[3], 0, outcome=UsageOutcome.FAILED)])
    with pytest.raises(WrongAnswerError, match="Failed"):
        metered_totals(spool)


def test_an_unknown_subject_is_an_error_of_the_settings():
    with pytest.raises(LoadSettingsError, match="apache"):
        choose_subjects(["apache"])
