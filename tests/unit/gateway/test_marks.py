"""Marks promise no more than what the spool holds."""

from hypothesis import given
from hypothesis import strategies as st

from penstock_gateway.metering.marks import mark_of

_requests = st.lists(st.tuples(st.sampled_from("abc"), st.floats(min_value=0, max_value=100)))


def test_a_mark_names_the_oldest_request_of_each_replica():
    mark = mark_of("gateway-1", 50.0, [("a", 40.0), ("a", 30.0), ("b", 45.0)])
    assert mark.writer == "gateway-1"
    assert set(mark.oldest_start_s) == {"a", "b"}
    assert 29.9 < mark.oldest_start_s["a"] < 30.0
    assert 44.9 < mark.oldest_start_s["b"] < 45.0


@given(_requests)
def test_nothing_under_way_lies_in_what_may_be_settled(under_way):
    at_s = 100.0
    mark = mark_of("w", at_s, under_way)
    for replica, start_s in under_way:
        assert min(mark.oldest_start_s.get(replica, mark.at_s), mark.at_s) < start_s or start_s >= at_s - 0.011
    assert mark.at_s < at_s
