"""Quantiles agree with the standard library's."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_loadtest.quantiles import Quantiles, quantile, quantiles

values = st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=2, max_size=200)


@given(values)
def test_they_are_those_of_the_standard_library(found):
    expected = statistics.quantiles(found, n=100, method="inclusive")
    result = quantiles(found)
    assert (result.p50, result.p90, result.p95, result.p99) == pytest.approx(
        (expected[49], expected[89], expected[94], expected[98]), abs=1e-6
    )
    assert result.count == len(found)
    assert result.mean == pytest.approx(statistics.fmean(found), abs=1e-6)


@given(values)
def test_they_lie_in_order_between_the_extremes(found):
    result = quantiles(found)
    tolerance = 1e-9 * max(map(abs, found), default=0)
    assert min(found) <= result.p50 + tolerance
    assert result.p50 <= result.p90 + tolerance <= result.p95 + 2 * tolerance <= result.p99 + 3 * tolerance
    assert result.p99 <= result.max + tolerance == max(found) + tolerance


def test_of_one_value_all_are_that_value():
    assert quantile([3.5], 0.99) == 3.5


def test_of_nothing_all_are_zero():
    assert quantiles([]) == Quantiles()


@pytest.mark.parametrize(("found", "share"), [([], 0.5), ([1.0], 1.5)])
def test_a_quantile_of_nothing_is_an_error(found, share):
    with pytest.raises(ValueError, match="needs values"):
        quantile(found, share)
