"""How long records have been waiting, told from sizes alone."""

from __future__ import annotations

from collections.abc import Mapping


class Lag:
    """Sets a checkpoint, waits until all that was there then is acknowledged, and sets the next.

    Args:
        now_s: Any clock's seconds.
    """

    def __init__(self, now_s: float) -> None:
        self._covered_s = now_s
        self._checkpoint: tuple[float, dict[str, int]] = (now_s, {})

    def seen(self, sizes: Mapping[str, int], acknowledged: Mapping[str, int], now_s: float) -> float:
        """Return the age of the oldest byte that may not be acknowledged yet; 0 when all is.

        Args:
            sizes: Bytes of each segment.
            acknowledged: Bytes of each segment that are acknowledged; a segment that is not named is done with.
            now_s: Now.
        """
        if all(acknowledged.get(name, size) >= size for name, size in sizes.items()):
            self._covered_s = now_s
            self._checkpoint = (now_s, dict(sizes))
            return 0.0
        taken_s, marks = self._checkpoint
        if all(acknowledged.get(name, mark) >= mark for name, mark in marks.items()):
            self._covered_s = taken_s
            self._checkpoint = (now_s, dict(sizes))
        return now_s - self._covered_s
