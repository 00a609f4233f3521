"""Which replica has probably seen the beginning of a prompt before: a chain of block hashes, and an index of them.

A gateway has no tokenizer, so blocks are cut from the prompt's bytes as they stand in the request. Each link of the
chain stands for its block and all before it, as the hashes of engines' prefix caches do. The index remembers which
links were sent to which replica and forgets the oldest first, as engines do; it is an estimate and may be wrong at no
more cost than a prefill.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

BYTES_PER_TOKEN: Final = 4
"""Of prompts as JSON: English text has a little more, code and other scripts have less."""

DEFAULT_CAPACITY_BYTES: Final = 500_000 * BYTES_PER_TOKEN
"""Prompt bytes that a replica's cache is taken to hold until its engine has said how much it does hold."""

_BLOCKS: Final = ((16, 512), (24, 1024), (48, 2048), (96, 4096))
"""How many blocks of how many bytes follow one another. The further in, the coarser: a cut that is missed by a block
costs the prefill of that block, which matters less the more is found before it."""

EDGES: Final = tuple(accumulate(size for count, size in _BLOCKS for _ in range(count)))
"""Where each block ends, in bytes. What lies after the last is not looked at (about 128,000 tokens)."""

_CUTS: Final = tuple(slice(start, end) for start, end in zip((0, *EDGES[:-1]), EDGES, strict=True))

_LEVELS: Final = 4
"""Of holders that are told apart by how much they hold: bounds what a look-up costs, whatever was sent before."""

_REMEMBERED_SETS: Final = 1024


class Holders(NamedTuple):
    """Replicas that hold equally much of a prompt."""

    matched_bytes: int
    """Of its beginning."""
    replicas: frozenset[str]
    """Their ids; a replica that holds more is among those that hold less, too."""


def chain(prompt: bytes, salt: int) -> list[int]:
    """Return one link for each whole block at the beginning of a prompt.

    Links are good within one process only: Python's own hash is the fastest there is here, and keyed at random when a
    process starts, so that nobody can make prompts on purpose whose links collide.

    Args:
        prompt: As it stands in the request, so that the same beginning has the same bytes.
        salt: Keeps apart what engines keep apart: tenants, models, adapters.
    """
    link = salt
    links = []
    for cut in _CUTS[: bisect_right(EDGES, len(prompt))]:
        link = hash((link, prompt[cut]))
        links.append(link)
    return links


class _Held:
    """What one replica holds, the oldest first."""

    __slots__ = ("bit", "capacity", "links", "size")

    def __init__(self, bit: int, capacity: int) -> None:
        self.bit = bit
        self.capacity = capacity
        self.links: OrderedDict[int, int] = OrderedDict()
        """Sizes by link."""
        self.size = 0


class PrefixIndex:
    """What the replicas of one model probably hold.

    Args:
        capacity: Of each replica's cache, until `resize` says otherwise; in the unit of `edges`.
        edges: Where each block ends.
    """

    __slots__ = ("_capacity", "_edges", "_held", "_holders", "_names", "_sizes")

    def __init__(self, capacity: int = DEFAULT_CAPACITY_BYTES, edges: Sequence[int] = EDGES) -> None:
        self._capacity = capacity
        self._edges = edges
        self._sizes = tuple(end - start for start, end in zip((0, *edges[:-1]), edges, strict=True))
        self._held: dict[str, _Held] = {}
        self._holders: dict[int, int] = {}
        """Replicas by link, as bits."""
        self._names: dict[int, frozenset[str]] = {}
        """Replicas by their bits taken together, as far as they were asked for."""

    def __len__(self) -> int:
        """Return how many links are known."""
        return len(self._holders)

    def keep(self, replicas: Iterable[str]) -> None:
        """Know these replicas and no others: what one held that is gone is forgotten."""
        wanted = dict.fromkeys(replicas)
        for gone in self._held.keys() - wanted.keys():
            self.forget(gone)
            del self._held[gone]
        taken = sum(held.bit for held in self._held.values())
        for replica in wanted:
            if replica not in self._held:
                bit = ~taken & (taken + 1)  # the lowest that is free
                taken |= bit
                self._held[replica] = _Held(bit, self._capacity)
        self._names.clear()

    def forget(self, replica: str) -> None:
        """Take a replica for empty, as after a restart."""
        held = self._held.get(replica)
        if held is not None:
            for link in held.links:
                self._drop(link, held.bit)
            held.links.clear()
            held.size = 0

    def resize(self, replica: str, capacity: int) -> None:
        """Set how much a replica's cache holds; takes effect with the next prompt that it gets."""
        held = self._held.get(replica)
        if held is not None:
            held.capacity = capacity

    def match(self, links: Sequence[int]) -> list[Holders]:
        """Return who probably holds how much of a prompt's beginning, the most first; empty when nobody does.

        Of replicas that hold much less than others only the best few kinds are told.
        """
        holders = self._holders
        levels: list[tuple[int, int]] = []
        before = 0
        for depth, link in enumerate(links):
            bits = holders.get(link, 0)
            if bits != before:
                if before:
                    levels.append((before, depth))
                before = bits
                if not bits:
                    break
        if before:
            levels.append((before, len(links)))
        best_first = levels[: -_LEVELS - 1 : -1]
        return [
            Holders(self._edges[depth - 1], self._names.get(bits) or self._name(bits)) for bits, depth in best_first
        ]

    def record(self, replica: str, links: Sequence[int]) -> None:
        """Note that a prompt is sent to a replica. One that is not known (any more) is passed over."""
        held = self._held.get(replica)
        if held is None:
            return
        known, bit, holders, sizes = held.links, held.bit, self._holders, self._sizes
        # The last block first, so that it is also the first to be forgotten: a block is of no use without those before.
        for place in range(len(links) - 1, -1, -1):
            link = links[place]
            if link in known:
                known.move_to_end(link)
            else:
                known[link] = size = sizes[place]
                held.size += size
                holders[link] = holders.get(link, 0) | bit
        while held.size > held.capacity and known:
            link, size = known.popitem(last=False)
            held.size -= size
            self._drop(link, bit)

    def _drop(self, link: int, bit: int) -> None:
        left = self._holders[link] & ~bit
        if left:
            self._holders[link] = left
        else:
            del self._holders[link]

    def _name(self, bits: int) -> frozenset[str]:
        if len(self._names) >= _REMEMBERED_SETS:
            self._names.clear()
        names = self._names[bits] = frozenset(replica for replica, held in self._held.items() if held.bit & bits)
        return names
