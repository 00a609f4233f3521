"""The policies compared: the gateway's own pick, and what it is to be measured by."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from penstock.routing.pick import pick
from penstock.routing.prefix import BYTES_PER_TOKEN, PrefixIndex
from penstock_loadtest.bench.pick.twin import Replica
from penstock_loadtest.traces.mooncake import BLOCK_TOKENS

_EDGES: Final = tuple(BLOCK_TOKENS * BYTES_PER_TOKEN * (place + 1) for place in range(256))
"""The trace's own blocks, in the bytes that a gateway takes them for; no prompt of it has more."""


class Policy(Protocol):
    """Chooses replicas."""

    def choose(self, blocks: Sequence[int]) -> Replica:
        """Return the replica for a prompt."""
        ...


class Random:
    """Any replica."""

    def __init__(self, fleet: Sequence[Replica], capacity_tokens: int, rng: random.Random) -> None:
        self._fleet = fleet
        self._rng = rng

    def choose(self, blocks: Sequence[int]) -> Replica:
        """Return one by chance."""
        return self._rng.choice(self._fleet)


class LeastLoaded:
    """The replica with the fewest requests: as even as a pick can be that does not know what is to come."""

    def __init__(self, fleet: Sequence[Replica], capacity_tokens: int, rng: random.Random) -> None:
        self._fleet = fleet
        self._rng = rng

    def choose(self, blocks: Sequence[int]) -> Replica:
        """Return one of the least loaded by chance."""
        return _least(self._fleet, self._rng)


class CacheFirst:
    """The replica that holds most, whatever its load, by looking into the caches themselves.

    A match of one block counts for none: all prompts of the trace begin with the same one, and would go to one replica.
    """

    def __init__(self, fleet: Sequence[Replica], capacity_tokens: int, rng: random.Random) -> None:
        self._fleet = fleet
        self._rng = rng

    def choose(self, blocks: Sequence[int]) -> Replica:
        """Return the least loaded of those that hold most."""
        matched = [replica.matched_blocks(blocks) for replica in self._fleet]
        most = max(matched)
        if most <= 1:
            return _least(self._fleet, self._rng)
        return _least([r for r, count in zip(self._fleet, matched, strict=True) if count == most], self._rng)


class Penstock:
    """What a gateway runs: `PrefixIndex` and `pick`, knowing of caches only what it has sent."""

    def __init__(self, fleet: Sequence[Replica], capacity_tokens: int, rng: random.Random) -> None:
        self._fleet = fleet
        self._index = PrefixIndex(capacity_tokens * BYTES_PER_TOKEN, _EDGES)
        self._index.keep(replica.id for replica in fleet)
        self._turn = rng.randrange(1000)

    def choose(self, blocks: Sequence[int]) -> Replica:
        """Return the pick, and remember it."""
        self._turn += 1
        chosen = pick(self._fleet, turn=self._turn, near=self._index.match(blocks))
        assert chosen is not None  # noqa: S101 - none drains, none is ejected
        self._index.record(chosen.id, blocks)
        return chosen


class PenstockMistaken(Penstock):
    """The same, believing the caches to be twice as large as they are."""

    def __init__(self, fleet: Sequence[Replica], capacity_tokens: int, rng: random.Random) -> None:
        super().__init__(fleet, 2 * capacity_tokens, rng)


POLICIES: Final[Mapping[str, Callable[[Sequence[Replica], int, random.Random], Policy]]] = {
    "cache-first": CacheFirst,
    "penstock": Penstock,
    "penstock-mistaken": PenstockMistaken,
    "least-loaded": LeastLoaded,
    "random": Random,
}


def _least(fleet: Sequence[Replica], rng: random.Random) -> Replica:
    fewest = min(replica.in_flight for replica in fleet)
    return rng.choice([replica for replica in fleet if replica.in_flight == fewest])
