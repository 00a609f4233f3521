"""The watchdog tells a dead or hung engine from one that is busy, without ever waiting for it."""

import asyncio

import pytest

from penstock_engine.watchdog import Watchdog

pytestmark = pytest.mark.anyio


class FakeEngine:
    """Answers pings while `alive`; time passes only by the watchdog's own sleeps."""

    def __init__(self, *, dies_at_s: float = 1e9, hangs_at_s: float = 1e9, fails_pings: bool = False) -> None:
        self.now_s = 0.0
        self.pings = 0
        self.dies_at_s = dies_at_s
        self.hangs_at_s = hangs_at_s
        self.fails_pings = fails_pings

    async def ping(self) -> bool:
        self.pings += 1
        if self.now_s >= self.hangs_at_s:
            await asyncio.Event().wait()
        if self.fails_pings:
            raise ConnectionError("not now")
        return False

    async def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s
        await asyncio.sleep(0)

    def watchdog(self, hang_after_s: float) -> Watchdog:
        return Watchdog(
            is_dead=lambda: self.now_s >= self.dies_at_s,
            ping=self.ping,
            hang_after_s=hang_after_s,
            clock=lambda: self.now_s,
            sleep=self.sleep,
        )


async def test_a_dead_engine_is_noticed_at_the_next_look():
    engine = FakeEngine(dies_at_s=5.0)
    assert await engine.watchdog(hang_after_s=60.0).watch() == "the engine is dead"
    assert engine.now_s <= 5.25


async def test_a_hung_engine_is_noticed_after_the_time_it_may_be_silent():
    engine = FakeEngine(hangs_at_s=3.0)
    reason = await engine.watchdog(hang_after_s=10.0).watch()
    assert reason == "the engine has not answered for 10 s"
    assert 13.0 <= engine.now_s <= 15.0


async def test_an_engine_that_hangs_and_then_dies_counts_as_dead():
    engine = FakeEngine(hangs_at_s=1.0, dies_at_s=4.0)
    assert await engine.watchdog(hang_after_s=60.0).watch() == "the engine is dead"


async def test_a_failing_ping_is_a_sign_of_life():
    engine = FakeEngine(fails_pings=True, dies_at_s=120.0)
    assert await engine.watchdog(hang_after_s=10.0).watch() == "the engine is dead"
    assert engine.now_s >= 120.0


async def test_a_healthy_engine_is_pinged_about_once_a_second():
    engine = FakeEngine(dies_at_s=60.0)
    await engine.watchdog(hang_after_s=10.0).watch()
    assert 55 <= engine.pings <= 61


async def test_watching_can_be_called_off():
    engine = FakeEngine()
    watching = asyncio.create_task(engine.watchdog(hang_after_s=10.0).watch())
    await asyncio.sleep(0)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
