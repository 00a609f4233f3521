"""Conditions keep their time until they flip, and are dated by generation."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_operator.runtime.conditions import Condition, find_condition, is_true, merge_conditions

NOON = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
LATER = NOON + dt.timedelta(minutes=5)
CONDITIONS = st.lists(
    st.builds(
        Condition,
        st.sampled_from(["Ready", "Fits", "Degraded"]),
        st.sampled_from(["True", "False", "Unknown"]),
        st.sampled_from(["One", "Two"]),
    ),
    unique_by=lambda condition: condition.type,
)


def test_the_first_observation_has_the_time_it_was_made():
    (ready,) = merge_conditions([], [Condition("Ready", "True", "Serving", "2 replicas")], generation=3, now=NOON)
    assert ready == {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "2 replicas",
        "observedGeneration": 3,
        "lastTransitionTime": "2026-11-23T12:00:00Z",
    }


def test_another_reason_is_no_transition():
    before = merge_conditions([], [Condition("Ready", "False", "Loading")], generation=1, now=NOON)
    (after,) = merge_conditions(before, [Condition("Ready", "False", "NoCapacity")], generation=2, now=LATER)
    assert after["lastTransitionTime"] == "2026-11-23T12:00:00Z"
    assert (after["reason"], after["observedGeneration"]) == ("NoCapacity", 2)


@given(observed=CONDITIONS)
def test_an_unchanged_world_writes_nothing(observed):
    before = merge_conditions([], observed, generation=1, now=NOON)
    assert merge_conditions(before, observed, generation=1, now=LATER) == before


@given(first=CONDITIONS, second=CONDITIONS)
def test_time_moves_exactly_where_a_status_flips(first, second):
    before = {c["type"]: c for c in merge_conditions([], first, generation=1, now=NOON)}
    for condition in merge_conditions(before.values(), second, generation=1, now=LATER):
        last = before.get(condition["type"])
        moved = condition["lastTransitionTime"] != "2026-11-23T12:00:00Z"
        assert moved == (last is None or last["status"] != condition["status"])


@pytest.mark.parametrize("reason", ["", "no capacity", "noCapacity", "No-Capacity"])
def test_a_reason_is_one_camel_case_word(reason):
    with pytest.raises(ValueError, match="CamelCase"):
        Condition("Ready", "False", reason)


def test_what_was_true_of_an_earlier_generation_is_not_true_now():
    conditions = merge_conditions([], [Condition("Ready", "True", "Serving")], generation=1, now=NOON)
    assert is_true({"metadata": {"generation": 1}, "status": {"conditions": conditions}}, "Ready")
    assert not is_true({"metadata": {"generation": 2}, "status": {"conditions": conditions}}, "Ready")
    assert not is_true({"metadata": {"generation": 1}}, "Ready")
    assert find_condition({"metadata": {}}, "Ready") is None
