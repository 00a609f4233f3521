"""The last scaling decisions of each Model, in memory, for `penstock why`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from penstock.scaling.decision import Decision, Direction

MOST: Final = 200
"""Decisions that are kept of a Model."""
_QUIET_S: Final = 30.0


class Decisions:
    """A ring for each Model; a decision that says nothing new is kept only every half minute."""

    def __init__(self) -> None:
        self._rings: dict[str, deque[Decision]] = {}

    def take(self, decision: Decision) -> None:
        """Keep a decision, if it says something new."""
        ring = self._rings.setdefault(decision.model, deque(maxlen=MOST))
        last = ring[-1] if ring else None
        if (
            last is None
            or decision.direction is not Direction.HOLD
            or decision.ruling != last.ruling
            or decision.at_s - last.at_s >= _QUIET_S
        ):
            ring.append(decision)

    def of(self, model: str) -> Sequence[Decision]:
        """Return what is kept of a Model, the oldest first."""
        return tuple(self._rings.get(model, ()))

    def forget(self, model: str) -> None:
        """Drop what is kept of a Model."""
        self._rings.pop(model, None)
