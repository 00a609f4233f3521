"""An answer is right only if it says so in every way it should."""

import json

import pytest

from penstock_loadtest.answers import AnswerReading
from penstock_loadtest.records import Outcome

CLEAN = {"error": {"message": "too many", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}}


def event(text=None, **more):
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}}]
    return f"data: {json.dumps({'choices': choices, **more})}\n".encode()


def read_stream(*lines, start_s=10.0, step_s=0.5):
    reading = AnswerReading(start_s)
    reading.status = 200
    now_s = start_s
    for line in lines:
        now_s += step_s
        reading.feed_line(line, now_s)
    return reading.finish(1_700_000_000.0, now_s)


def read_body(status, body):
    reading = AnswerReading(0.0)
    reading.status = status
    reading.feed_body(json.dumps(body).encode() if not isinstance(body, bytes) else body, 2.0)
    return reading.finish(0.0, 2.0)


def test_a_good_stream_is_timed_and_counted():
    usage = event(usage={"prompt_tokens": 7, "completion_tokens": 5})
    record = read_stream(event(""), event("a"), event("b"), event("c"), usage, b"data: [DONE]\n")
    assert record.outcome is Outcome.COMPLETE
    assert (record.prompt_tokens, record.completion_tokens) == (7, 5)
    assert record.ttft_s == 1.0, "the event without text is no token"
    assert record.tpot_s == pytest.approx(1.0 / 4), "the engine's count, though tokens came three to an event"
    assert record.duration_s == 3.0


def test_without_usage_events_with_text_are_counted():
    record = read_stream(event("a"), b"\n", b": keep-alive\n", event("b"), b"data: [DONE]\n")
    assert (record.outcome, record.completion_tokens, record.prompt_tokens) == (Outcome.COMPLETE, 2, 0)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_text(field):
    line = f"data: {json.dumps({'choices': [{'delta': {field: 'hm'}}]})}\n".encode()
    assert read_stream(line, b"data: [DONE]\n").completion_tokens == 1


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        ([event("a")], Outcome.TRUNCATED),
        ([], Outcome.TRUNCATED),
        ([b"data: [DONE]\n"], Outcome.NO_TOKENS),
        ([event(""), b"data: [DONE]\n"], Outcome.NO_TOKENS),
        ([event("a"), f"data: {json.dumps(CLEAN)}\n".encode()], Outcome.ERROR_EVENT),
        ([event("a"), f"data: {json.dumps(CLEAN)}\n".encode(), b"data: [DONE]\n"], Outcome.ERROR_EVENT),
        (
            [event("a"), b'data: {"error": {"message": "boom", "code": 500}}\n', b"data: [DONE]\n"],
            Outcome.MALFORMED_ERROR,
        ),
        ([b'data: {"error": "boom"}\n'], Outcome.MALFORMED_ERROR),
        ([b"data: {oops\n", b"data: [DONE]\n"], Outcome.MALFORMED_ANSWER),
        ([b'data: {"choices": "none"}\n', b"data: [DONE]\n"], Outcome.MALFORMED_ANSWER),
    ],
)
def test_failures_in_a_stream_with_status_200_are_seen(lines, outcome):
    record = read_stream(*lines)
    assert record.outcome is outcome
    assert record.outcome.failed
    assert record.message


def test_a_null_error_is_none():
    assert read_stream(event("a", error=None), b"data: [DONE]\n").outcome is Outcome.COMPLETE


@pytest.mark.parametrize(
    ("body", "outcome", "code"),
    [
        (CLEAN, Outcome.ERROR_ANSWER, "rate_limit_exceeded"),
        ({"error": {**CLEAN["error"], "code": None}}, Outcome.ERROR_ANSWER, "rate_limit_error"),
        ({"error": {**CLEAN["error"], "code": 429}}, Outcome.MALFORMED_ERROR, ""),
        ({"error": {"message": "no other keys"}}, Outcome.MALFORMED_ERROR, ""),
        ({"detail": "not found"}, Outcome.MALFORMED_ERROR, ""),
        (b"<html>", Outcome.MALFORMED_ERROR, ""),
        (b"", Outcome.MALFORMED_ERROR, ""),
    ],
)
def test_clean_errors_are_told_from_others(body, outcome, code):
    record = read_body(429, body)
    assert (record.outcome, record.error_code, record.status) == (outcome, code, 429)
    assert record.outcome.clean == (outcome is Outcome.ERROR_ANSWER)


def test_an_answer_in_one_piece_has_no_first_token():
    body = {"choices": [{"message": {"content": "hello"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    record = read_body(200, body)
    assert (record.outcome, record.completion_tokens, record.ttft_s, record.tpot_s) == (Outcome.COMPLETE, 2, None, None)


def test_the_first_failure_is_kept():
    reading = AnswerReading(0.0)
    reading.fail(Outcome.TIMED_OUT, "x" * 500)
    reading.fail(Outcome.CONNECTION_LOST, "later")
    record = reading.finish(0.0, 1.0)
    assert (record.outcome, len(record.message)) == (Outcome.TIMED_OUT, 200)
