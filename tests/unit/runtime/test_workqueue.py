"""Laws of the work queue, on a clock that stands still."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_kube.clock import Backoff
from penstock_operator.runtime.workqueue import QueueClosedError, WorkQueue
from tests.unit.kube.fake_clock import FakeClock, settle

pytestmark = pytest.mark.anyio


@pytest.fixture
async def clock():
    return FakeClock()


@pytest.fixture
async def queue(clock):
    queue = WorkQueue(clock=clock, rng=lambda: 0.0, backoff=Backoff(base_s=1.0, cap_s=10.0, jitter=0.0))
    task = asyncio.ensure_future(queue.run())
    yield queue
    task.cancel()
    await settle()


async def test_a_key_that_waits_is_not_added_twice(queue):
    queue.add("a")
    queue.add("a")
    assert len(queue) == 1


async def test_a_key_with_a_worker_waits_for_it_and_runs_once_more(queue):
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done(key)
    assert len(queue) == 1


async def test_keys_come_in_the_order_they_were_added(queue):
    for key in "bca":
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["b", "c", "a"]


async def test_a_delayed_key_comes_at_its_time(queue, clock):
    queue.add_after("a", 5.0)
    await clock.advance(4.9)
    assert (len(queue), queue.delayed) == (0, 1)
    await clock.advance(0.2)
    assert (len(queue), queue.delayed) == (1, 0)


async def test_of_two_delays_the_earlier_counts_and_only_once(queue, clock):
    queue.add_after("a", 5.0)
    queue.add_after("a", 2.0)
    queue.add_after("a", 9.0)
    await clock.advance(2.1)
    assert await queue.get() == "a"
    queue.done("a")
    await clock.advance(20.0)
    assert len(queue) == 0


async def test_an_earlier_key_is_not_held_up_by_a_later_one(queue, clock):
    queue.add_after("late", 60.0)
    await settle()
    queue.add_after("soon", 1.0)
    await clock.advance(1.1)
    assert await queue.get() == "soon"


async def test_a_key_added_now_needs_no_later_turn(queue, clock):
    queue.add_after("a", 5.0)
    queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    await clock.advance(10.0)
    assert len(queue) == 0


async def test_failures_wait_longer_and_longer_until_forgotten(queue):
    assert [queue.add_failed("a") for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert queue.add_failed("b") == 1.0
    queue.forget("a")
    assert queue.failures("a") == 0
    assert queue.add_failed("a") == 1.0


async def test_what_the_server_asks_for_is_the_least_delay(queue):
    assert queue.add_failed("a", at_least_s=7.0) == 7.0


async def test_a_closed_queue_gives_nothing_out(queue):
    waiting = asyncio.ensure_future(queue.get())
    await settle()
    queue.add("a")
    queue.close()
    with pytest.raises(QueueClosedError):
        await waiting
    queue.add("b")
    queue.add_after("c", 1.0)
    assert queue.delayed == 0


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from("abc")),
            st.tuples(st.just("later"), st.sampled_from("abc")),
            st.tuples(st.just("take"), st.just("")),
            st.tuples(st.just("done"), st.just("")),
        ),
        max_size=30,
    )
)
async def test_nothing_is_lost_and_no_key_has_two_workers(steps):
    clock = FakeClock()
    queue = WorkQueue(clock=clock, rng=lambda: 0.0)
    pump = asyncio.ensure_future(queue.run())
    owed, working = set(), []
    for step, key in steps:
        if step == "add":
            queue.add(key)
            owed.add(key)
        elif step == "later":
            queue.add_after(key, 3.0)
            owed.add(key)
        elif step == "take" and len(queue):
            taken = await queue.get()
            assert taken not in working
            working.append(taken)
            owed.discard(taken)
        elif step == "done" and working:
            queue.done(working.pop())
    for key in working:
        queue.done(key)
    await clock.advance(5.0)
    left = []
    while len(queue):
        left.append(await queue.get())
    assert set(left) >= owed
    assert len(left) == len(set(left))
    pump.cancel()
    await settle()
