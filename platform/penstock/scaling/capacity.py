"""What one replica can do, learnt from stretches of its work."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median, quantiles

import msgspec

from penstock.engines.base import EngineLoad
from penstock.performance.work import NEUTRAL, WorkWeights, work_of
from penstock.scaling.snapshot import Capacity

STRETCH_S = 5.0
"""Length of a stretch: shorter ones jump, since engines count a prompt all at once when it is done."""
MIN_SATURATED = 5
"""Fewer saturated stretches say too little: a median of 5 stands two odd ones."""
FORGET_AFTER_S = 3600.0
"""Loads change shape: what was learnt longer ago is learnt anew."""
KV_BOUND = 0.9
"""From here on KV, not compute, may be what limits the work done."""
MAX_POLL_GAP_S = 5.0
"""Across a longer gap nobody knows whether requests waited all the time."""


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """What one engine did in a few seconds."""

    at_s: float
    seconds: float
    prompt_tokens: int
    """Cached ones included."""
    cached_tokens: int
    completion_tokens: int
    saturated: bool
    """Requests waited all the time and KV was not why; otherwise none waited at all."""


class StretchMeter:
    """Cuts an engine's readings into stretches that were alike throughout."""

    def __init__(self) -> None:
        self._first: tuple[float, EngineLoad, bool] | None = None
        self._last: tuple[float, EngineLoad] | None = None

    def take(self, load: EngineLoad, at_s: float) -> Stretch | None:
        """Take a reading and return the stretch that it completes, if any."""
        kind = _kind(load)
        previous, self._last = self._last, (at_s, load)
        gap = previous is not None and at_s - previous[0] > MAX_POLL_GAP_S
        if kind is None:
            self._first = None
            return None
        if self._first is None or self._first[2] is not kind or gap or _began_again(load, self._first[1]):
            self._first = (at_s, load, kind)
            return None
        first_s, first, _ = self._first
        if at_s - first_s < STRETCH_S:
            return None
        self._first = (at_s, load, kind)
        return Stretch(
            at_s=at_s,
            seconds=at_s - first_s,
            prompt_tokens=load.prompt_tokens - first.prompt_tokens,
            cached_tokens=load.prefix_hits - first.prefix_hits,
            completion_tokens=load.generation_tokens - first.generation_tokens,
            saturated=kind,
        )


def estimate(stretches: Iterable[Stretch], now_s: float, weights: WorkWeights = NEUTRAL) -> Capacity:
    """Return the capacity of a replica from stretches of any replicas of the same kind.

    It is the median rate of saturated stretches. Where a quarter of the stretches without a queue did more, that rate
    counts instead: a replica that did it can do it.
    """
    saturated: list[float] = []
    unqueued: list[float] = []
    for stretch in stretches:
        if now_s - stretch.at_s <= FORGET_AFTER_S:
            work = work_of(stretch.prompt_tokens, stretch.cached_tokens, stretch.completion_tokens, weights)
            (saturated if stretch.saturated else unqueued).append(work / stretch.seconds)
    if len(saturated) < MIN_SATURATED:
        return Capacity(samples=len(saturated))
    rate = median(saturated)
    if len(unqueued) >= MIN_SATURATED:
        rate = max(rate, quantiles(unqueued, n=4)[-1])
    return Capacity(work_per_s=rate if rate > 0 else None, samples=len(saturated))


def _kind(load: EngineLoad) -> bool | None:
    """Return True for saturated by compute, False for busy without a queue, None for what teaches nothing."""
    if load.running == 0:
        return None
    if load.waiting_for_capacity == 0:
        return False
    full = load.kv_usage >= KV_BOUND or load.kv_usage * (1 + 1 / load.running) > 1
    return None if full else True


def _began_again(load: EngineLoad, before: EngineLoad) -> bool:
    return load.generation_tokens < before.generation_tokens or load.prompt_tokens < before.prompt_tokens
