"""A twin of replicas: caches that forget the oldest block first, and service times that can be checked by hand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import msgspec

PREFILL_TOKENS_PER_S: Final = 12_000.0
"""Of one replica, one prompt after another."""
TPOT_S: Final = 0.025
"""Of each request in a running batch, however large."""


class Replica:
    """One replica. Has what `penstock.routing.pick.ReplicaView` asks for, as a gateway would see it."""

    __slots__ = ("_cache", "_capacity", "_free_at_s", "draining", "ejected", "id", "in_flight", "work_tokens")

    kv_usage = 0.0
    waiting = 0
    others = 0
    in_flight_at_report = 0

    def __init__(self, name: str, capacity_blocks: int) -> None:
        self.id = name
        self.draining = False
        self.ejected = False
        self.in_flight = 0
        self.work_tokens = 0
        """Prompt tokens, less those found in the cache, of the requests in flight."""
        self._capacity = capacity_blocks
        self._cache: OrderedDict[int, None] = OrderedDict()
        self._free_at_s = 0.0

    def matched_blocks(self, blocks: Sequence[int]) -> int:
        """Return how many blocks of a prompt's beginning the cache holds."""
        cache = self._cache
        for count, block in enumerate(blocks):
            if block not in cache:
                return count
        return len(blocks)

    def serve(self, at_s: float, blocks: Sequence[int], prefill_tokens: int, output_tokens: int) -> float:
        """Take a request and return when it ends: its prefill after those before it, then its tokens one by one."""
        cache = self._cache
        for block in reversed(blocks):  # its end is forgotten before its beginning
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) > self._capacity:
            cache.popitem(last=False)
        self._free_at_s = max(at_s, self._free_at_s) + prefill_tokens / PREFILL_TOKENS_PER_S
        return self._free_at_s + output_tokens * TPOT_S


class Windows:
    """Load of replicas averaged over windows.

    Args:
        replicas: How many.
        window_s: Length of a window.
    """

    def __init__(self, replicas: int, window_s: float) -> None:
        self._window_s = window_s
        self._now_s = 0.0
        self._replicas = replicas
        self._requests: list[list[float]] = []
        self._work: list[list[float]] = []

    def advance(self, to_s: float, fleet: Sequence[Replica]) -> None:
        """Add what the replicas have in flight from the last call until `to_s`."""
        while self._now_s < to_s:
            window = int(self._now_s / self._window_s)
            until_s = min(to_s, (window + 1) * self._window_s)
            if until_s <= self._now_s:  # rounded down into the window before
                until_s = to_s
            while len(self._requests) <= window:
                self._requests.append([0.0] * self._replicas)
                self._work.append([0.0] * self._replicas)
            requests, work, seconds = self._requests[window], self._work[window], until_s - self._now_s
            for place, replica in enumerate(fleet):
                requests[place] += replica.in_flight * seconds
                work[place] += replica.work_tokens * seconds
            self._now_s = until_s

    def ratios(self) -> Ratios:
        """Return max over mean of each window, the first and the last left out."""
        return Ratios(requests=_over_mean(self._requests), work=_over_mean(self._work))


class Ratios(msgspec.Struct, frozen=True, kw_only=True):
    """Max over mean of the replicas' loads, one value a window."""

    requests: list[float]
    work: list[float]


def _over_mean(windows: Sequence[Sequence[float]]) -> list[float]:
    return [max(loads) * len(loads) / sum(loads) for loads in windows[1:-1] if sum(loads) > 0]
