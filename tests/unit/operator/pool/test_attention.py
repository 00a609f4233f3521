"""A model is thought about when something is asked of it or changes, and now and then otherwise."""

import pytest

from penstock_operator.pool.attention import QUIET_S, Attention
from tests.unit.operator.pool.makers import model

QUIET = {"busy": False, "ready": 1, "target": 1}


@pytest.fixture
def attention():
    watched = Attention()
    assert watched.is_due(WANTED, **QUIET, now_s=0.0)
    return watched


WANTED = model()


def test_a_quiet_model_is_left_alone_for_a_while(attention):
    assert not attention.is_due(WANTED, **QUIET, now_s=QUIET_S - 0.1)
    assert attention.is_due(WANTED, **QUIET, now_s=QUIET_S)
    assert not attention.is_due(WANTED, **QUIET, now_s=QUIET_S + 1)


@pytest.mark.parametrize("change", [{"busy": True}, {"ready": 0}, {"target": 2}])
def test_one_of_which_something_is_asked_or_missing_is_not(attention, change):
    for moment in (0.1, 0.2):
        assert attention.is_due(WANTED, **(QUIET | change), now_s=moment)


def test_an_edit_is_seen_at_once(attention):
    assert attention.is_due(model(slo={"timeToFirstTokenMilliseconds": 300}), **QUIET, now_s=0.1)
    attention.forget("llama")
    assert attention.is_due(WANTED, **QUIET, now_s=0.2)
