"""Time in a gateway: one monotonic clock for durations, and wall-clock stamps that are derived from it."""

from __future__ import annotations

import time
from email.utils import formatdate


class Clock:
    """Stamps records with Unix time without a second clock read, and keeps the `date` header current.

    The difference between both clocks is taken at `refresh`, so that a jump of the wall clock in the middle of a
    request can make neither its duration nor the order of its stamps wrong.
    """

    __slots__ = ("date", "offset_s")

    def __init__(self) -> None:
        self.offset_s = 0.0
        self.date = b""
        self.refresh()

    def refresh(self) -> None:
        """Read the wall clock; called twice a second or so."""
        wall_s = time.time()
        self.offset_s = wall_s - time.monotonic()
        self.date = formatdate(wall_s, usegmt=True).encode()

    def unix_s(self, monotonic_s: float) -> float:
        """Return the Unix time of a `time.monotonic()` reading."""
        return monotonic_s + self.offset_s
