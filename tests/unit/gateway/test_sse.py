"""The event scanner: any cut of a stream gives the same events, counts and end."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_gateway.relay.sse import EventScanner, EventTooLargeError

LIMIT = 1 << 20


def event(payload: object) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def chunk(text: str) -> bytes:
    return event({"choices": [{"delta": {"content": text}}]})


def scan(stream: bytes, cuts: list[int], *, strip: bool = True) -> tuple[bytes, EventScanner]:
    scanner = EventScanner(strip_usage=strip, event_bytes=LIMIT)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    out = b"".join(scanner.feed(stream[a:b]) for a, b in pairwise(edges) if a != b)
    return out, scanner


texts = st.lists(
    st.text(max_size=12) | st.sampled_from(['"usage":', '"error"', "[DONE]", "data: x", "\n\n", "\r\n"]), max_size=6
)
cuts = st.lists(st.integers(0, 10_000), max_size=12)
USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
}


@given(texts, cuts, st.booleans(), st.sampled_from([b"", b": ping\n\n", b"event: x\ndata: y\n\n"]))
def test_the_client_gets_the_same_bytes_however_the_stream_is_cut(
    words: list[str], at: list[int], strip: bool, other: bytes
):
    shown = b"".join(map(chunk, words)) + other
    stream = shown + event(USAGE) + b"data: [DONE]\n\n"
    out, scanner = scan(stream, at, strip=strip)
    assert out == (shown if strip else shown + event(USAGE))
    assert scanner.done
    assert scanner.error is None
    assert (scanner.usage.prompt_tokens, scanner.usage.completion_tokens, scanner.usage.cached_tokens) == (5, 2, 1)


@given(texts, cuts)
def test_chunks_with_a_choice_are_counted(words: list[str], at: list[int]):
    _, scanner = scan(b"".join(map(chunk, words)), at)
    assert scanner.tokens == len(words)


def test_the_chunk_that_opens_a_message_is_no_token():
    opening = event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
    assert scan(opening + chunk("a") + chunk("b"), [])[1].tokens == 2


@given(texts, cuts)
def test_nothing_follows_an_error(words: list[str], at: list[int]):
    shown = b"".join(map(chunk, words))
    out, scanner = scan(shown + event({"error": {"message": "x"}}) + chunk("late") + b"data: [DONE]\n\n", at)
    assert out == shown
    assert json.loads(scanner.error) == {"message": "x"}
    assert not scanner.done


@given(cuts)
def test_carriage_returns_end_events_too(at: list[int]):
    stream = b'data: {"choices":[{}]}\r\n\r\ndata: [DONE]\r\n\r\n'
    out, scanner = scan(stream, at)
    assert out == b'data: {"choices":[{}]}\r\n\r\n'
    assert scanner.done


def test_usage_on_a_chunk_with_a_choice_stays_and_is_noted():
    both = event({"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    out, scanner = scan(both, [])
    assert out == both
    assert scanner.usage.completion_tokens == 1


def test_what_is_not_known_is_passed_on():
    odd = b'data: {"usage": 3}\n\ndata: "usage"\n\n'
    assert scan(odd, [])[0] == odd


def test_an_event_without_end_is_bounded():
    scanner = EventScanner(strip_usage=True, event_bytes=100)
    scanner.feed(b"data: " + b"x" * 90)
    with pytest.raises(EventTooLargeError, match="100 bytes"):
        scanner.feed(b"x" * 10)
