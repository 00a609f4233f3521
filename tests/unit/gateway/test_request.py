"""Bodies for engines: what is edited means what it should, what is not keeps its bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_gateway.errors import BadRequestError
from penstock_gateway.relay.request import peek, upstream_body, wants_usage

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
options = st.fixed_dictionaries({}, optional={"include_usage": st.none() | st.booleans(), "other": values})
bodies = st.fixed_dictionaries(
    {"model": st.text(min_size=1)},
    optional={
        "stream": st.none() | st.booleans(),
        "stream_options": st.none() | options,
        "messages": values,
        "x": values,
    },
)
layouts = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}])


@given(bodies, layouts, st.booleans(), st.randoms(use_true_random=False))
def test_an_edited_body_is_the_same_but_for_name_and_usage(body: dict, layout: dict, rename: bool, random: object):
    items = list(body.items())
    random.shuffle(items)
    body = dict(items)
    try:
        raw = b" \n" + json.dumps(body, **layout).encode()
    except UnicodeEncodeError:
        return  # lone surrogates are no UTF-8
    peeked = peek(raw)
    served = "served" if rename else body["model"]
    expected = {**body, "model": served}
    if body.get("stream") is True and (body.get("stream_options") or {}).get("include_usage") is not True:
        expected["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    sent = upstream_body(raw, peeked, served)
    assert json.loads(sent) == expected
    if expected == body:
        assert sent is raw


def test_numbers_keep_their_digits():
    raw = b'{"model": "a", "seed": 12345678901234567890123, "temperature": 0.10000000000000000001}'
    sent = upstream_body(raw, peek(raw), "b")
    assert b"12345678901234567890123" in sent
    assert b"0.10000000000000000001" in sent


def test_a_field_given_twice_means_its_last_value_to_gateway_and_engine():
    raw = b'{"model": "a", "model": "b", "stream": true}'
    assert peek(raw).model == json.loads(upstream_body(raw, peek(raw), "b"))["model"] == "b"
    assert json.loads(upstream_body(raw, peek(raw), "c"))["model"] == "c"


@pytest.mark.parametrize(("given", "asked"), [(b"{}", False), (b"null", False), (b'{"include_usage": true}', True)])
def test_who_asked_for_usage(given: bytes, asked: bool):
    assert wants_usage(peek(b'{"model": "a", "stream": true, "stream_options": %b}' % given)) is asked


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(raw: bytes):
    try:
        peeked = peek(raw)
    except BadRequestError:
        pass  # nothing else may come out of it
    else:
        assert json.loads(raw)["model"] == peeked.model
