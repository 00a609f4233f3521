"""The independent meter: when each replica's process began and ended, from the operating system alone.

It knows pids and prices and nothing of what Serve says of a replica's life, so that what it finds can check the rest.
A birth is read from `/proc`, to a clock tick; an end from the process's pidfd, which becomes readable as it dies.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from penstock.cost.records import MeterReading
from penstock.local import procfs

_READING_PERIOD_S = 10.0


@dataclass(slots=True)
class _Watched:
    replica: str
    usd_per_hour: str
    began_s: float
    pidfd: int
    read_s: float


class Meter:
    """Follows replica processes and hands a `MeterReading` to `emit` at start, every 10 s, and at the exact end."""

    def __init__(self, emit: Callable[[MeterReading], None], *, clock: Callable[[], float] = time.time) -> None:
        self._emit = emit
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._ended: set[str] = set()

    def watch(self, replica: str, pid: int, usd_per_hour: str) -> None:
        """Begin to follow a replica's process; a replica that is followed or has ended is left alone."""
        if replica in self._watched or replica in self._ended:
            return
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        # Read after the pidfd is held: from here on the pid cannot be another process's.
        began_s = procfs.born_s(pid)
        if began_s is None:
            os.close(pidfd)
            return
        watched = _Watched(replica, usd_per_hour, began_s, pidfd, 0.0)
        self._watched[replica] = watched
        self._read(watched)
        asyncio.get_running_loop().add_reader(pidfd, self._end, replica)

    def tick(self) -> None:
        """Write a reading of those that have not had one for a while, so that a lost meter loses little."""
        for watched in self._watched.values():
            if self._clock() - watched.read_s >= _READING_PERIOD_S:
                self._read(watched)

    async def wait_ended(self, within_s: float) -> bool:
        """Wait until no replica's process lives; False when one still does after `within_s`."""
        deadline_s = time.monotonic() + within_s
        while self._watched:
            if time.monotonic() >= deadline_s:
                return False
            await asyncio.sleep(0.05)  # the ends themselves come from the pidfds, to the moment
        return True

    def close(self) -> None:
        """Stop following; those that live get a last reading."""
        for watched in list(self._watched.values()):
            self._read(watched)
            asyncio.get_running_loop().remove_reader(watched.pidfd)
            os.close(watched.pidfd)
        self._watched.clear()

    def _read(self, watched: _Watched, *, ended: bool = False) -> None:
        watched.read_s = self._clock()
        self._emit(
            MeterReading(
                replica=watched.replica,
                began_s=watched.began_s,
                seen_s=watched.read_s,
                ended=ended,
                usd_per_hour=watched.usd_per_hour,
            )
        )

    def _end(self, replica: str) -> None:
        watched = self._watched.pop(replica)
        self._ended.add(replica)
        self._read(watched, ended=True)
        asyncio.get_running_loop().remove_reader(watched.pidfd)
        os.close(watched.pidfd)
