"""The meter of a cluster's replicas: what each engine's own process says of its life, for the ledger to check bills by.

It is independent of Ray Serve's word, from which the bill is made: an engine's metrics page tells when its process
began, and each answer shows that it lives. A replica that ends before it ever answers has no reading.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from penstock.control.replicas import Life
from penstock.cost.records import MeterReading
from penstock_operator.pool.loads import Reading

_PERIOD_S: Final = 10.0
"""Longest time that a reading is held back, so that a leader that is lost loses little."""


class Meter:
    """Turns readings of engines into the ledger's meter readings."""

    def __init__(self, emit: Callable[[MeterReading], None]) -> None:
        """Make a meter that has seen nothing.

        Args:
            emit: Writes a reading into the spool.
        """
        self._emit = emit
        self._last: dict[str, MeterReading] = {}
        self._told_s: dict[str, float] = {}

    def take(self, life: Life, reading: Reading) -> None:
        """Take one answer of a replica's engine."""
        began_s = reading.load.started_s
        if began_s is None:
            return
        seen = MeterReading(
            replica=life.id,
            began_s=min(began_s, reading.at_s),
            seen_s=reading.at_s,
            ended=False,
            usd_per_hour=str(life.application.usd_per_hour),
        )
        self._last[life.id] = seen
        if reading.at_s - self._told_s.get(life.id, 0.0) >= _PERIOD_S:
            self._tell(seen)

    def forget(self, replica: str) -> None:
        """Write down when a replica that has ended was last seen alive."""
        last = self._last.pop(replica, None)
        if last is not None and last.seen_s > self._told_s.get(replica, 0.0):
            self._tell(last)
        self._told_s.pop(replica, None)

    def _tell(self, reading: MeterReading) -> None:
        self._told_s[reading.replica] = reading.seen_s
        self._emit(reading)
