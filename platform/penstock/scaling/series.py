"""Counters of several processes as one series of increments, summed over windows."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.routing.load import LATENCY_BUCKETS_S, ModelLoad
from penstock.scaling.demand import MIN_COMPLETED

LONG_WINDOW_S = 600.0
"""How far back increments are kept: the mean request is taken from here when the last seconds say too little."""
TOKENS_PER_BYTE = 0.25
"""Of a request body, until a completed request has shown better."""


def _no_counts() -> list[int]:
    return [0] * (len(LATENCY_BUCKETS_S) + 1)


@dataclass(slots=True)
class Increments:
    """What counters grew by."""

    arrived: int = 0
    admitted: int = 0
    finished: int = 0
    """Completed, and cancelled by the client: both have their tokens counted."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    body_bytes: int = 0
    tpot_s_sum: float = 0.0
    ttft_buckets: list[int] = field(default_factory=_no_counts)
    tpot_buckets: list[int] = field(default_factory=_no_counts)

    def add(self, other: Increments, sign: int = 1) -> None:
        """Add another's increments to these, or take them off again with a `sign` of -1."""
        self.arrived += sign * other.arrived
        self.admitted += sign * other.admitted
        self.finished += sign * other.finished
        self.prompt_tokens += sign * other.prompt_tokens
        self.cached_tokens += sign * other.cached_tokens
        self.completion_tokens += sign * other.completion_tokens
        self.body_bytes += sign * other.body_bytes
        self.tpot_s_sum += sign * other.tpot_s_sum
        self.ttft_buckets = [a + sign * b for a, b in zip(self.ttft_buckets, other.ttft_buckets, strict=True)]
        self.tpot_buckets = [a + sign * b for a, b in zip(self.tpot_buckets, other.tpot_buckets, strict=True)]


class Series:
    """Increments of one model by the time they were seen."""

    def __init__(self) -> None:
        self._seconds: dict[int, Increments] = {}
        self.long = Increments()
        """All of the last `LONG_WINDOW_S`, kept as a running sum."""

    def add(self, at_s: float, increments: Increments) -> None:
        """Add increments seen at a time; clocks of several processes need not agree to the second."""
        self._seconds.setdefault(int(at_s), Increments()).add(increments)
        self.long.add(increments)
        oldest = int(at_s - LONG_WINDOW_S)
        for second in [second for second in self._seconds if second <= oldest]:
            self.long.add(self._seconds.pop(second), sign=-1)

    def over(self, window_s: float, now_s: float) -> Increments:
        """Return what was added in the last `window_s` seconds."""
        total = Increments()
        for second, increments in self._seconds.items():
            if second > int(now_s) - window_s:
                total.add(increments)
        return total


def since(load: ModelLoad, before: ModelLoad | None) -> Increments:
    """Return what one process counted between two reports; `before` is None when it had not met the model yet."""
    was = ModelLoad(model=load.model) if before is None else before
    return Increments(
        arrived=load.arrived - was.arrived,
        admitted=load.admitted - was.admitted,
        finished=load.completed + load.cancelled - was.completed - was.cancelled,
        prompt_tokens=load.prompt_tokens - was.prompt_tokens,
        cached_tokens=load.cached_tokens - was.cached_tokens,
        completion_tokens=load.completion_tokens - was.completion_tokens,
        body_bytes=load.body_bytes - was.body_bytes,
        tpot_s_sum=load.tpot_s_sum - was.tpot_s_sum,
        ttft_buckets=[a - b for a, b in zip(load.ttft_buckets, was.ttft_buckets, strict=True)],
        tpot_buckets=[a - b for a, b in zip(load.tpot_buckets, was.tpot_buckets, strict=True)],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanRequest:
    """The request that others are taken to be like."""

    prompt_tokens: float
    cached_tokens: float
    completion_tokens: float
    seconds: float | None
    """That it decodes; None while no stream has told."""
    finished: int
    """How many requests it is the mean of."""

    @classmethod
    def of(cls, stable: Increments, long: Increments) -> MeanRequest:
        """Return the mean request: of the last seconds when enough ended in them, of the last minutes otherwise.

        Prompts are scaled by the size of the bodies that arrive, which leads the tokens counted when requests end.
        """
        basis = stable if stable.finished >= MIN_COMPLETED else long
        if not basis.finished:
            prompt = TOKENS_PER_BYTE * long.body_bytes / long.admitted if long.admitted else 0.0
            return cls(prompt_tokens=prompt, cached_tokens=0.0, completion_tokens=0.0, seconds=None, finished=0)
        prompt = basis.prompt_tokens / basis.finished
        cached_share = min(basis.cached_tokens / basis.prompt_tokens, 1.0) if basis.prompt_tokens else 0.0
        if long.admitted and long.body_bytes and stable.admitted:
            mean_body_bytes = long.body_bytes / long.admitted
            prompt = long.prompt_tokens / long.finished * (stable.body_bytes / stable.admitted) / mean_body_bytes
        completion = basis.completion_tokens / basis.finished
        streams = sum(basis.tpot_buckets)
        return cls(
            prompt_tokens=prompt,
            cached_tokens=prompt * cached_share,
            completion_tokens=completion,
            seconds=completion * basis.tpot_s_sum / streams if streams else None,
            finished=basis.finished,
        )
