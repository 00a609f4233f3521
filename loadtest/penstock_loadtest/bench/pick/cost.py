"""What a pick costs the gateway, part by part."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Final

from penstock.routing.pick import pick
from penstock.routing.prefix import BYTES_PER_TOKEN, PrefixIndex, chain
from penstock_loadtest.bench.pick.twin import Replica

REPLICAS: Final = 64
PROMPT_BYTES: Final = 8192 * BYTES_PER_TOKEN
_SYSTEM_BYTES: Final = 4096
_CALLS: Final = 100
_BATCHES: Final = 30


def pick_costs_us(seed: int) -> Iterator[tuple[str, float]]:
    """Yield the parts of a pick and their microseconds, each the fastest of several batches.

    Every replica holds the prompt's first 4 kB, as it would a common system prompt; one holds half of it and one all.
    """
    rng = random.Random(seed)  # noqa: S311 - a prompt's text
    prompt = rng.randbytes(PROMPT_BYTES)
    fleet = [Replica(f"r{place}", 0) for place in range(REPLICAS)]
    for replica in fleet:
        replica.in_flight = 8 + rng.randrange(3)
    index = PrefixIndex()
    index.keep(replica.id for replica in fleet)
    for replica in fleet:
        index.record(replica.id, chain(prompt[:_SYSTEM_BYTES], 0))
    index.record("r1", chain(prompt[: PROMPT_BYTES // 2], 0))
    index.record("r2", chain(prompt, 0))
    fleet[2].in_flight = 8
    links = chain(prompt, 0)
    near = index.match(links)
    yield "hash_us", _fastest_us(lambda: chain(prompt, 0))
    yield "match_us", _fastest_us(lambda: index.match(links))
    yield "score_us", _fastest_us(lambda: pick(fleet, turn=1, near=near))
    yield "match_and_score_us", _fastest_us(lambda: pick(fleet, turn=1, near=index.match(links)))
    yield "record_us", _fastest_us(lambda: index.record("r2", links))
    fresh = iter([chain(rng.randbytes(PROMPT_BYTES), 0) for _ in range(_CALLS * _BATCHES // 10)])
    yield "record_new_us", _fastest_us(lambda: index.record("r3", next(fresh)), calls=_CALLS // 10)


def _fastest_us(call: Callable[[], object], calls: int = _CALLS) -> float:
    fastest_s = float("inf")
    for _ in range(_BATCHES):
        began_s = time.perf_counter()
        for _ in range(calls):
            call()
        fastest_s = min(fastest_s, time.perf_counter() - began_s)
    return fastest_s / calls * 1e6
