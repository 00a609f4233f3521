"""Open-loop arrivals: drawn or replayed."""

import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_loadtest.arrivals import Arrival, TraceScale, draw_arrivals, scale_trace
from penstock_loadtest.errors import LoadSettingsError
from penstock_loadtest.lengths import parse_lengths
from penstock_loadtest.schedules import constant
from penstock_loadtest.traces import AZURE_2023_CONVERSATION, read_azure_trace

traces = st.lists(
    st.builds(
        Arrival,
        at_s=st.floats(min_value=0, max_value=5000),
        prompt_tokens=st.integers(min_value=1, max_value=20000),
        output_tokens=st.integers(min_value=1, max_value=2000),
    ),
    max_size=50,
)


@given(traces, st.floats(min_value=0.01, max_value=100))
def test_time_scale_keeps_every_request_and_its_order(trace, time_scale):
    scaled = scale_trace(trace, TraceScale(time_scale=time_scale))
    assert [a.at_s * time_scale for a in scaled] == pytest.approx([a.at_s for a in trace])
    assert [(a.prompt_tokens, a.output_tokens) for a in scaled] == [(a.prompt_tokens, a.output_tokens) for a in trace]


@given(traces, st.floats(min_value=0.001, max_value=10), st.integers(min_value=1, max_value=500))
def test_lengths_are_scaled_then_capped_and_never_vanish(trace, factor, cap):
    scaled = scale_trace(trace, TraceScale(length_scale=factor, max_prompt_tokens=cap, max_output_tokens=cap))
    for before, after in zip(trace, scaled, strict=True):
        assert after.prompt_tokens == min(cap, max(1, round(before.prompt_tokens * factor)))
        assert 1 <= after.output_tokens <= cap


def test_a_replay_can_end_early():
    trace = [Arrival(at_s=at, prompt_tokens=1, output_tokens=1) for at in (0.0, 9.0, 10.0, 30.0)]
    assert len(scale_trace(trace, TraceScale(time_scale=2, duration_s=5))) == 2


def test_a_scale_of_nothing_is_refused():
    with pytest.raises(LoadSettingsError, match=r"time_scale 0 must be above 0"):
        scale_trace([], TraceScale(time_scale=0))


def test_drawn_lengths_follow_the_distribution():
    arrivals = draw_arrivals(constant(50, 40), parse_lengths("10-30"), parse_lengths("lognormal:100:0.5:400"), seed=3)
    assert statistics.mean(a.prompt_tokens for a in arrivals) == pytest.approx(20, rel=0.05)
    assert statistics.median(a.output_tokens for a in arrivals) == pytest.approx(100, rel=0.1)
    assert arrivals == draw_arrivals(
        constant(50, 40), parse_lengths("10-30"), parse_lengths("lognormal:100:0.5:400"), seed=3
    )


def test_the_carried_trace_is_the_published_one():
    trace = read_azure_trace(AZURE_2023_CONVERSATION)
    assert len(trace) == 19366
    assert trace[0].at_s == 0
    assert trace[-1].at_s == pytest.approx(3502, abs=1)
    assert statistics.mean(a.prompt_tokens for a in trace) == pytest.approx(1154.7, abs=0.1)
    assert statistics.mean(a.output_tokens for a in trace) == pytest.approx(211, abs=0.5)


def test_its_licence_lies_beside_it():
    assert "CC-BY 4.0" in AZURE_2023_CONVERSATION.with_name("README.md").read_text()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no requests"),
        ("a,b\n1,2\n", "request 1"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1,1\n2023-11-16 18:15:46,many,1\n", "request 2"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n", "request 1"),
    ],
)
def test_a_broken_trace_is_named_with_its_place(tmp_path, text, word):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(LoadSettingsError, match=word):
        read_azure_trace(path)


def test_a_missing_trace_is_named(tmp_path: Path):
    with pytest.raises(LoadSettingsError, match=r"nowhere\.csv cannot be read"):
        read_azure_trace(tmp_path / "nowhere.csv")
