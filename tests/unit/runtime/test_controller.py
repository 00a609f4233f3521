"""What a controller does with each outcome of a reconcile."""

import asyncio

import pytest

from penstock_kube.clock import Backoff
from penstock_kube.errors import ConflictError, InvalidError, NotLeaderError, ThrottledError, UnreachableError
from penstock_kube.reflector import Reflector
from penstock_kube.resources import CONFIG_MAPS, Key
from penstock_operator.runtime.controller import Controller, Result, RetryLaterError
from penstock_operator.runtime.workqueue import WorkQueue
from tests.unit.kube.fake_clock import FakeClock, settle

pytestmark = pytest.mark.anyio

A, B = Key("ns", "a"), Key("ns", "b")


class Outcomes:
    def __init__(self):
        self.seen = []

    def reconciled(self, controller, outcome, seconds):
        self.seen.append(outcome)


class Bench:
    """A controller whose reconciles are scripted: errors to raise or results to return, by key."""

    def __init__(self, clock, **options):
        self.clock = clock
        self.script = {}
        self.calls = []
        self.outcomes = Outcomes()
        queue = WorkQueue(clock=clock, rng=lambda: 0.0, backoff=Backoff(base_s=1.0, cap_s=60.0, jitter=0.0))
        self.controller = Controller(
            "test", self.reconcile, queue=queue, clock=clock, observer=self.outcomes, **options
        )
        self.task = None

    async def reconcile(self, key):
        self.calls.append((key.name, self.clock.monotonic() - 1000.0))
        script = self.script.get(key, [])
        step = script.pop(0) if script else Result()
        if isinstance(step, BaseException):
            raise step
        return await step if asyncio.isfuture(step) else step

    def start(self):
        self.task = asyncio.ensure_future(self.controller.run())

    async def stop(self):
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


@pytest.fixture
async def bench():
    bench = Bench(FakeClock())
    bench.start()
    yield bench
    if not bench.task.done():
        await bench.stop()


@pytest.mark.parametrize(
    ("error", "outcome", "second_at_s"),
    [
        (RetryLaterError("weights are on their way", 20.0), "later", 20.0),
        (ConflictError(409, "Conflict", "changed"), "conflict", 1.0),
        (UnreachableError("refused"), "unreachable", 1.0),
        (ThrottledError(429, "TooManyRequests", "slow down", retry_after_s=9.0), "unreachable", 9.0),
        (InvalidError(422, "Invalid", "spec.x"), "refused", 1.0),
        (ZeroDivisionError("a bug"), "bug", 1.0),
    ],
)
async def test_a_failure_is_tried_again_at_its_time(bench, error, outcome, second_at_s):
    bench.script[A] = [error]
    bench.controller.queue.add(A)
    await bench.clock.advance(second_at_s - 0.1)
    assert bench.outcomes.seen == [outcome]
    await bench.clock.advance(0.2)
    assert bench.outcomes.seen == [outcome, "ok"]
    await bench.clock.advance(600.0)
    assert len(bench.calls) == 2


async def test_a_key_met_while_leadership_was_in_doubt_is_not_forgotten(bench):
    bench.script[A] = [NotLeaderError("in doubt")]
    bench.controller.queue.add(A)
    await bench.clock.advance(0.9)
    assert bench.outcomes.seen == ["refused"]
    await bench.clock.advance(0.2)
    assert bench.outcomes.seen == ["refused", "ok"]


async def test_a_broken_object_does_not_hold_up_others(bench):
    bench.script[A] = [ZeroDivisionError() for _ in range(100)]
    bench.controller.queue.add(A)
    bench.controller.queue.add(B)
    await settle()
    assert {name for name, _ in bench.calls} == {"a", "b"}


async def test_failures_back_off_and_success_starts_over(bench):
    bench.script[A] = [UnreachableError("1"), UnreachableError("2"), Result(), UnreachableError("3")]
    bench.controller.queue.add(A)
    await bench.clock.advance(50.0)
    bench.controller.queue.add(A)
    await bench.clock.advance(50.0)
    assert bench.calls == [("a", 0.0), ("a", 1.0), ("a", 3.0), ("a", 50.0), ("a", 51.0)]


async def test_a_result_may_ask_for_another_look(bench):
    bench.script[A] = [Result(requeue_after_s=30.0)]
    bench.controller.queue.add(A)
    await bench.clock.advance(29.0)
    assert len(bench.calls) == 1
    await bench.clock.advance(2.0)
    assert len(bench.calls) == 2


async def test_stopping_lets_a_running_reconcile_finish(bench):
    going = asyncio.get_running_loop().create_future()
    bench.script[A] = [going]
    bench.controller.queue.add(A)
    bench.controller.queue.add(B)
    await settle()
    bench.task.cancel()
    await bench.clock.advance(1.0)
    assert not bench.task.done()
    going.set_result(Result())
    with pytest.raises(asyncio.CancelledError):
        await bench.task
    assert bench.outcomes.seen.count("ok") == 2


async def test_stopping_ends_a_reconcile_that_takes_too_long(bench):
    bench.script[A] = [asyncio.get_running_loop().create_future()]
    bench.controller.queue.add(A)
    await settle()
    bench.task.cancel()
    await bench.clock.advance(5.1)
    assert bench.task.done()


async def test_changes_of_other_objects_lead_to_ours():
    clock = FakeClock()
    bench = Bench(clock)
    reflector = Reflector(None, CONFIG_MAPS, clock=clock)
    bench.controller.watch(reflector, lambda change: [Key("ns", change.key.name.removesuffix("-config"))])
    bench.start()
    await settle()
    change = reflector.store.put({"metadata": {"namespace": "ns", "name": "a-config", "resourceVersion": "1"}})
    reflector._tell(change)
    await settle()
    assert bench.calls == []  # the mirror is not complete: a decision now could be wrong
    reflector._synced.set()
    await settle()
    assert [name for name, _ in bench.calls] == ["a"]
    await bench.stop()
