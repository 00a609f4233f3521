"""A clock that only a test moves, and a process that can be frozen under it."""

from __future__ import annotations

import asyncio
import datetime as dt
import heapq

EPOCH = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)


class FakeClock:
    """Time stands still until `advance`."""

    def __init__(self) -> None:
        self.time_s = 1000.0
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self.time_s

    def now(self) -> dt.datetime:
        return EPOCH + dt.timedelta(seconds=self.time_s)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time_s + max(0.0, seconds), len(self.slept), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move time on, waking each sleeper at its own time, and let everything that can run do so."""
        await settle()
        end_s = self.time_s + seconds
        while self._sleepers and self._sleepers[0][0] <= end_s:
            due_s, _, woken = heapq.heappop(self._sleepers)
            self.time_s = max(self.time_s, due_s)
            if not woken.done():
                woken.set_result(None)
            await settle()
        self.time_s = end_s
        await settle()


class Freezer:
    """The clock of a process that can be stopped: while frozen none of its sleeps ends, and time goes on outside."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._running = asyncio.Event()
        self._running.set()

    def freeze(self) -> None:
        self._running.clear()

    def thaw(self) -> None:
        self._running.set()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def now(self) -> dt.datetime:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await self._running.wait()


async def settle() -> None:
    """Let every task run until it waits for time or for a test."""
    for _ in range(30):
        await asyncio.sleep(0)
