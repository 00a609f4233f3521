"""Delays and limits."""

import asyncio
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_kube.clock import Backoff, micro_timestamp, timestamp, within
from tests.unit.kube.fake_clock import FakeClock, settle

pytestmark = pytest.mark.anyio


@given(failures=st.integers(1, 10_000), random=st.floats(0.0, 1.0, exclude_max=True))
def test_a_delay_stays_between_its_jitter_and_its_cap(failures, random):
    backoff = Backoff(base_s=0.5, cap_s=30.0, jitter=0.5)
    whole = backoff.delay_s(failures, lambda: 0.0)
    assert whole / 2 <= backoff.delay_s(failures, lambda: random) <= whole <= 30.0
    assert backoff.delay_s(failures + 1, lambda: 0.0) >= whole


def test_times_are_written_as_the_api_server_writes_them():
    moment = dt.datetime(2026, 11, 23, 13, 0, 1, 5000, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert timestamp(moment) == "2026-11-23T12:00:01Z"
    assert micro_timestamp(moment) == "2026-11-23T12:00:01.005000Z"


async def test_a_call_within_its_time_gives_its_result():
    async def answer():
        return 42

    assert await within(FakeClock(), 1.0, answer()) == 42


async def test_a_call_beyond_its_time_is_cancelled():
    clock, cancelled = FakeClock(), []

    async def silent():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    task = asyncio.ensure_future(within(clock, 5.0, silent()))
    await clock.advance(4.9)
    assert not task.done()
    await clock.advance(0.2)
    await settle()
    with pytest.raises(TimeoutError):
        await task
    assert cancelled == [True]
