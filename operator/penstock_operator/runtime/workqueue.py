"""Keys that wait for work: each once, each with one worker at a time, failing ones ever later.

A key that is added while it waits is the same work. A key that is added while a worker has it runs once more
afterwards. Nothing is lost between the two, so a controller may forget what it was told and look at the world.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from penstock_kube.clock import Backoff, Clock, Rng, SystemClock

K = TypeVar("K", bound=Hashable)


class QueueClosedError(Exception):
    """The queue gives out no more work."""


class WorkQueue(Generic[K]):
    """A queue of keys for one event loop. Run `run` as a task: it moves delayed keys when their time has come."""

    def __init__(self, *, backoff: Backoff | None = None, clock: Clock | None = None, rng: Rng = random.random) -> None:
        """Make an empty queue.

        Args:
            backoff: waits after failures of one key in a row.
            clock: time and waiting.
            rng: spreads those waits.
        """
        self._backoff = backoff or Backoff(base_s=0.05, cap_s=120.0)
        self._clock = clock or SystemClock()
        self._rng = rng
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._sooner = asyncio.Event()
        self._arrived = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        """Return how many keys are ready for a worker."""
        return len(self._ready)

    @property
    def delayed(self) -> int:
        """How many keys wait for their time."""
        return len(self._due)

    def add(self, key: K) -> None:
        """Ask for work on a key, now."""
        self._due.pop(key, None)
        if self._closed or key in self._waiting:
            return
        if key in self._working:
            self._again.add(key)
            return
        self._waiting.add(key)
        self._ready.append(key)
        self._arrived.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Ask for work on a key after a time; of several such times the earliest counts."""
        if seconds <= 0:
            self.add(key)
            return
        due_s = self._clock.monotonic() + seconds
        if self._closed or key in self._waiting or self._due.get(key, float("inf")) <= due_s:
            return
        self._due[key] = due_s
        self._sequence += 1
        heapq.heappush(self._heap, (due_s, self._sequence, key))
        self._sooner.set()

    def add_failed(self, key: K, *, at_least_s: float = 0.0) -> float:
        """Ask for work on a key that failed, later each time, and return the delay in seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay_s = max(at_least_s, self._backoff.delay_s(failures, self._rng))
        self.add_after(key, delay_s)
        return delay_s

    def failures(self, key: K) -> int:
        """Return how often the key failed in a row."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """Let the next failure of a key count as its first."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """Wait for a key; `done` must follow.

        Raises:
            QueueClosedError: the queue is closed.
        """
        while not self._ready and not self._closed:
            self._arrived.clear()
            await self._arrived.wait()
        if self._closed:
            raise QueueClosedError
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """Say that the work on a key is over; it runs again if it was added meanwhile."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def close(self) -> None:
        """Give out no more work; what workers have they may finish."""
        self._closed = True
        self._arrived.set()

    async def run(self) -> None:
        """Make delayed keys ready when their time has come, until cancelled."""
        while True:
            self._sooner.clear()
            now_s = self._clock.monotonic()
            while self._heap and self._heap[0][0] <= now_s:
                due_s, _, key = heapq.heappop(self._heap)
                if self._due.get(key) == due_s:  # else an earlier time or an immediate add went before it
                    self.add(key)
            await self._pause(self._heap[0][0] - now_s if self._heap else None)

    async def _pause(self, seconds: float | None) -> None:
        """Wait for a time to come, or for an earlier one to be asked for."""
        if seconds is None:
            await self._sooner.wait()
            return
        tasks = [asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._sooner.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
