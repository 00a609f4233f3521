from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from penstock.api.quantity import Money, Quantity

quantities = TypeAdapter(Quantity)
money = TypeAdapter(Money)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("80Gi", 80 * 1024**3),
        ("3350G", 3350 * 10**9),
        ("989T", 989 * 10**12),
        ("1e3", 1000),
        ("1E", 10**18),
        ("500m", Decimal("0.5")),
        (".5", Decimal("0.5")),
        (12, 12),
    ],
)
def test_a_quantity_has_the_value_kubernetes_gives_it(text, value):
    assert quantities.validate_python(text).value == value


@pytest.mark.parametrize(
    ("given_value", "remedy"),
    [
        (0.85, 'write "0.85" in quotes'),
        (True, "quoted string"),
        ("80GB", "write '80G'"),
        ("80GiB", "write '80Gi'"),
        ("4K", "write '4k'"),
        ("-1Gi", "negative"),
        ("1e999999999", "not a quantity"),
        ("NaN", "not a quantity"),
        ("", "not a quantity"),
        ("9" * 100, "not a quantity"),
    ],
)
def test_what_is_no_quantity_is_refused_with_the_remedy(given_value, remedy):
    with pytest.raises(ValidationError, match=remedy.replace("(", r"\(")):
        quantities.validate_python(given_value)


@given(st.integers(min_value=0, max_value=10**15), st.sampled_from(["", "k", "M", "G", "Ki", "Mi", "Gi", "m"]))
def test_a_quantity_reads_back_as_it_was_written(number, suffix):
    text = f"{number}{suffix}"
    assert quantities.dump_python(quantities.validate_python(text)) == text


@given(st.decimals(min_value=0, max_value=10**9, places=6))
def test_money_is_exact_from_text_to_text(amount):
    assert money.validate_python(money.dump_python(money.validate_python(format(amount, "f")))) == amount


@pytest.mark.parametrize("given_value", [2.99, "2.99 USD", "-1", "1e5", "Infinity", "1_000"])
def test_money_takes_plain_decimals_only(given_value):
    with pytest.raises(ValidationError, match="in quotes"):
        money.validate_python(given_value)


def test_quantities_compare_by_value():
    assert Quantity("1Ki") == Quantity("1024")
    assert Quantity("1k") < Quantity("1Ki")
    assert len({Quantity("1Ki"), Quantity("1024")}) == 1
