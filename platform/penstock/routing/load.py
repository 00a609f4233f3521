"""Load reports: what each gateway process has seen, as counters that only grow, so that a lost poll loses nothing."""

from __future__ import annotations

import msgspec

LATENCY_BUCKETS_S: tuple[float, ...] = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 4.0, 7.0, 12.0, 25.0, 60.0,
)  # fmt: skip
"""Upper bounds of the latency histograms in a report; one more bucket counts what lies above."""


class ModelLoad(msgspec.Struct, kw_only=True):
    """Counters of one model and variant in one gateway process. Gauges say so; all else only grows."""

    model: str
    variant: str = ""
    """Empty for requests that have no replica yet: `arrived`, `shed` and `waiting` are counted there."""
    arrived: int = 0
    admitted: int = 0
    shed: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    body_bytes: int = 0
    """Bytes of admitted request bodies: prompt tokens of requests in flight are estimated from these."""
    in_flight: int = 0
    """Gauge: requests at an engine now."""
    waiting: int = 0
    """Gauge: requests held in the gateway for want of a replica."""
    ttft_s_sum: float = 0.0
    ttft_buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_S) + 1))
    """Streams only; counts per bucket of `LATENCY_BUCKETS_S`, not accumulated over buckets."""
    tpot_s_sum: float = 0.0
    tpot_buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_S) + 1))


class GatewayLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway process's answer at `/load`."""

    process: str
    """Random at start: a new value means that the counters began again at 0."""
    at_s: float
    """Unix seconds."""
    snapshot_version: int
    """The routing snapshot in use, so that an operator can wait until a drain is known everywhere."""
    models: tuple[ModelLoad, ...] = ()
    routable: tuple[str, ...] | None = None
    """Ids of the replicas that this process may still give new requests to; None from one that does not say."""
