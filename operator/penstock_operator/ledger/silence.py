"""Which writers are dead together with their disks: those that stay silent while the stream can be read.

A mark holds settling back until its writer has told the rest. A writer that ends says so, or the next process over its
spool does. One whose node is gone never does, and would hold everything back for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

_STEP_S: Final = 5.0
"""Most that one reading of the stream adds to a silence: while it cannot be read, nobody can be heard."""


class Silence:
    """Counts how long writers have been silent.

    Args:
        lost_after_s: Silence from which on a writer counts as lost, in seconds in which the stream was read.
        now_s: Monotonic seconds.
    """

    def __init__(self, lost_after_s: float, now_s: float) -> None:
        self._lost_after_s = lost_after_s
        self._read_s = now_s
        self._listening_s = 0.0
        self._heard_at_s: dict[str, float] = {}

    def heard(self, writers: Iterable[str], now_s: float) -> None:
        """Note a reading of the stream, and whose records it held."""
        self._listening_s += min(now_s - self._read_s, _STEP_S)
        self._read_s = now_s
        for writer in writers:
            self._heard_at_s[writer] = self._listening_s

    def lost(self, holding: Collection[str]) -> list[str]:
        """Return those of the writers that hold settling back that have been silent for too long.

        A writer seen here for the first time, as after a start of ours, begins its silence now.
        """
        for writer in self._heard_at_s.keys() - set(holding):
            del self._heard_at_s[writer]
        return sorted(
            writer
            for writer in holding
            if self._listening_s - self._heard_at_s.setdefault(writer, self._listening_s) > self._lost_after_s
        )
