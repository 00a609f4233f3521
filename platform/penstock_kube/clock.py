"""Time, randomness and back-off as parameters, so that a test owns them."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")

Rng = Callable[[], float]
"""Returns a number in [0, 1), as `random.random` does."""


class Clock(Protocol):
    """Tells time and waits."""

    def monotonic(self) -> float:
        """Return seconds since some fixed point; never goes back."""

    def now(self) -> dt.datetime:
        """Return the time of day in UTC, for what people read and other machines compare loosely."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        """Return seconds since boot, those in which the machine was suspended among them.

        A lease runs on while a laptop or a virtual machine sleeps, which `time.monotonic` on Linux does not see.
        """
        boot = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if boot is None else time.clock_gettime(boot)

    def now(self) -> dt.datetime:
        """Return the time of day in UTC."""
        return dt.datetime.now(dt.UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait, other tasks running meanwhile."""
        await asyncio.sleep(seconds)


async def within(clock: Clock, seconds: float, call: Coroutine[Any, Any, _T]) -> _T:
    """Await a call for at most so long.

    Raises:
        TimeoutError: it took longer; the call has been cancelled.
    """
    task = asyncio.ensure_future(call)
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((task, timer), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise TimeoutError(f"no answer in {seconds:g} s")
        return task.result()
    finally:
        for each in (task, timer):
            each.cancel()
        await asyncio.gather(task, timer, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double up to a limit, with jitter so that many clients do not return at once."""

    base_s: float = 0.5
    """Delay after the first failure, in seconds."""
    cap_s: float = 30.0
    """Longest delay, in seconds."""
    jitter: float = 0.5
    """Share of each delay that is drawn at random, in [0, 1]."""

    def delay_s(self, failures: int, rng: Rng) -> float:
        """Return the wait after the n-th failure in a row, counted from 1, in seconds."""
        whole = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 62))
        return whole * (1 - self.jitter * rng())


def timestamp(moment: dt.datetime) -> str:
    """Return a moment as `metav1.Time`: whole seconds, UTC."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(moment: dt.datetime) -> str:
    """Return a moment as `metav1.MicroTime`: microseconds, UTC."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
