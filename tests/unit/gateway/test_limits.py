"""Limits per minute: never more than the rate and one bucket, and a wait that is just long enough."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.snapshot import CompiledTenant
from penstock_gateway.errors import RateLimitedError
from penstock_gateway.tenants.limits import TenantLimits


def admitted(limits: TenantLimits, now_s: float) -> bool:
    try:
        limits.admit(now_s)
    except RateLimitedError:
        return False
    return True


@given(st.integers(1, 50), st.lists(st.floats(0, 30), min_size=1, max_size=200))
def test_no_more_than_the_rate_and_one_bucket(per_minute: int, gaps: list[float]):
    limits = TenantLimits(CompiledTenant(name="t", requests_per_minute=per_minute), 0.0)
    now_s, count = 0.0, 0
    for gap in gaps:
        now_s += gap
        count += admitted(limits, now_s)
    assert count <= per_minute + per_minute * now_s / 60 + 1e-6


@given(st.integers(1, 1000), st.integers(0, 5000))
def test_the_wait_that_is_named_is_enough(per_minute: int, used: int):
    limits = TenantLimits(CompiledTenant(name="t", tokens_per_minute=per_minute), 0.0)
    limits.settle(used)
    if used < per_minute:
        limits.admit(0.0)
        return
    with pytest.raises(RateLimitedError, match="tokens per minute") as caught:
        limits.admit(0.0)
    limits.admit(float(caught.value.retry_after_s))


def test_no_limits_admit_everything():
    limits = TenantLimits(CompiledTenant(name="t"), 0.0)
    limits.settle(10**9)
    assert all(admitted(limits, 0.0) for _ in range(1000))


def test_fields_tell_what_is_left_and_when_all_of_it_is_back():
    limits = TenantLimits(CompiledTenant(name="t", requests_per_minute=60, tokens_per_minute=600), 0.0)
    limits.admit(0.0)
    limits.settle(700)
    assert limits.fields().decode().split("\r\n") == [
        "x-ratelimit-limit-requests: 60",
        "x-ratelimit-remaining-requests: 59",
        "x-ratelimit-reset-requests: 1s",
        "x-ratelimit-limit-tokens: 600",
        "x-ratelimit-remaining-tokens: 0",
        "x-ratelimit-reset-tokens: 70s",
        "",
    ]
    assert TenantLimits(CompiledTenant(name="t"), 0.0).fields() == b""
