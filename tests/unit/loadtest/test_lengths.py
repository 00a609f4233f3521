"""Lengths and prompts."""

# ruff: noqa: S311 - seeds are the point

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_loadtest.errors import LoadSettingsError
from penstock_loadtest.lengths import parse_lengths
from penstock_loadtest.prompts import make_prompt


@given(st.integers(min_value=1, max_value=1000), st.integers(min_value=0, max_value=1000), st.integers())
def test_uniform_lengths_stay_in_their_range(low, spread, seed):
    lengths = parse_lengths(f"{low}-{low + spread}")
    assert low <= lengths.draw(random.Random(seed)) <= low + spread


@given(st.floats(min_value=1, max_value=500), st.floats(min_value=0, max_value=3), st.integers())
def test_lognormal_lengths_are_cut_off(median, sigma, seed):
    assert 1 <= parse_lengths(f"lognormal:{median}:{sigma}:600").draw(random.Random(seed)) <= 600


def test_one_number_is_a_fixed_length():
    assert parse_lengths(" 64 ").draw(random.Random(0)) == 64


@pytest.mark.parametrize("text", ["", "x", "0", "9-3", "-5", "lognormal:5", "lognormal:5:1:0", "1-2-3"])
def test_other_lengths_are_refused_with_the_forms(text):
    with pytest.raises(LoadSettingsError, match=r"N, LOW-HIGH"):
        parse_lengths(text)


@given(st.integers(min_value=1, max_value=5000), st.integers())
def test_prompts_have_exactly_the_bytes_asked_for(size, seed):
    prompt = make_prompt(size, random.Random(seed))
    assert len(prompt.encode()) == size
    assert prompt == prompt.strip()
    assert prompt.isprintable()
