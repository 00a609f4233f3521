"""What the ledger may conclude from what it hears of the usage stream, and from what it does not.

A mark holds settling back until its writer has told the rest. A writer that ends says so, or the next process over its
spool does; one whose node is gone never does, and would hold everything back for ever. And a writer that began while
the stream was away is not known yet: right after an outage, those that are heard first must not settle for the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

_STEP_S: Final = 5.0
"""Two readings further apart than this have an outage between them, of which at most this counts as silence."""


class Listening:
    """Follows how the stream is read. Times are monotonic seconds but where they are called Unix seconds.

    Args:
        lost_after_s: Silence from which on a writer counts as lost, in seconds in which the stream was read.
        grace_s: How long the stream must have been read without an outage until what it does not say counts.
        now_s: Now; listening begins with an outage of unknown length.
    """

    def __init__(self, *, lost_after_s: float, grace_s: float, now_s: float) -> None:
        self._lost_after_s = lost_after_s
        self._grace_s = grace_s
        self._read_s = now_s
        self._whole_since_s = now_s
        self._outage_unix_s = 0.0
        self._listening_s = 0.0
        self._heard_at_s: dict[str, float] = {}

    def heard(self, writers: Iterable[str], now_s: float, unix_s: float) -> None:
        """Note a reading of the stream, and whose records it held.

        Args:
            writers: Their identities.
            now_s: Now.
            unix_s: Now, in Unix seconds.
        """
        pause_s = now_s - self._read_s
        if pause_s > _STEP_S:
            if self._read_s >= self._whole_since_s + self._grace_s:  # else the outage before is not over either
                self._outage_unix_s = unix_s - pause_s
            self._whole_since_s = now_s
        self._listening_s += min(pause_s, _STEP_S)
        self._read_s = now_s
        for writer in writers:
            self._heard_at_s[writer] = self._listening_s

    def settled_until(self, now_s: float, unix_s: float) -> float:
        """Return up to when (Unix seconds) every writer has been heard that there was."""
        pause_s = now_s - self._read_s
        if self._read_s < self._whole_since_s + self._grace_s:
            return self._outage_unix_s
        return unix_s if pause_s <= _STEP_S else unix_s - pause_s

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
