import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cost.identity import usd_per_million_tokens
from penstock.cost.money import PICOUSD_PER_USD, price_picousd_per_hour, span_cost_picousd, split_picousd

TIMES = st.integers(0, 2 * 10**18)
PRICES = st.integers(0, 1000 * PICOUSD_PER_USD)


@given(PRICES, st.lists(TIMES, min_size=2, max_size=20))
def test_spans_of_one_origin_add_up_to_the_whole(price: int, times: list[int]) -> None:
    times.sort()
    origin = times[0]
    parts = [span_cost_picousd(price, origin, low, high) for low, high in itertools.pairwise(times)]
    assert sum(parts) == span_cost_picousd(price, origin, times[0], times[-1])
    assert min(parts) >= 0


def test_an_hour_costs_its_price() -> None:
    assert span_cost_picousd(price_picousd_per_hour("2.99"), 0, 0, 3600 * 10**9) == 2_990_000_000_000


@given(
    st.integers(0, 10**18),
    st.lists(st.floats(0, 1e12), min_size=1, max_size=50).filter(lambda weights: sum(weights) > 1e-300),
)
def test_shares_add_up_to_what_was_split(total: int, weights: list[float]) -> None:
    shares = split_picousd(total, weights)
    assert sum(shares) == total
    assert min(shares) >= 0


def test_shares_are_in_proportion() -> None:
    assert split_picousd(1000, [1.0, 3.0, 0.0, 4.0]) == [125, 375, 0, 500]


@pytest.mark.parametrize("price", ["", "two", "NaN", "Infinity", "-1"])
def test_a_price_that_is_none_is_refused_by_value(price: str) -> None:
    with pytest.raises(ValueError, match="usd_per_hour"):
        price_picousd_per_hour(price)


def test_the_identity_gives_the_textbook_figure() -> None:
    assert usd_per_million_tokens(2, 30) == pytest.approx(18.5185185185)


@pytest.mark.parametrize(("price", "rate"), [(0, 30), (2, 0), (-2, 30), (2, float("nan")), (float("inf"), 30)])
def test_the_identity_refuses_what_is_not_above_zero(price: float, rate: float) -> None:
    with pytest.raises(ValueError, match="must be a finite number above zero"):
        usd_per_million_tokens(price, rate)
