"""What a scaling decision is made from: everything that was seen, in one immutable value.

The state that the law keeps between decisions is `Memory`: each decision returns it, the next snapshot carries it.
Times are Unix seconds (`at_s`, `since_s`) or durations (`_s`); windows are those of `penstock.scaling.observe`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class ReplicaPhase(StrEnum):
    """Where a replica is in its life, as far as supply is concerned."""

    STARTING = "Starting"
    """Paid for, not yet serving: counts as supply to come."""
    READY = "Ready"
    DRAINING = "Draining"
    """Paid for, gets nothing new: no supply."""


class ReplicaReading(msgspec.Struct, frozen=True, kw_only=True):
    """One replica: its phase, and what its engine last said. Without a reading figures are zero and the age None."""

    replica: str
    state: ReplicaPhase
    since_s: float
    """When it entered the state."""
    kv_usage: float = 0.0
    """Share of KV blocks held by live requests, 0 to 1, mean of the fast window so that no single poll decides."""
    kv_usage_peak: float = 0.0
    """Largest in the fast window."""
    running: float = 0.0
    """Requests that run, mean of the same readings as `kv_usage`: a quotient of both says what one of them holds."""
    waiting: int = 0
    waiting_for_capacity: int = 0
    preemptions_per_s: float = 0.0
    kv_capacity_tokens: int | None = None
    max_sequences: int | None = None
    """Requests the engine runs at once; None when it does not say."""
    reading_age_s: float | None = None
    """Seconds since its metrics were last read; None when they never were."""


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What clients ask of one model, from the gateways' counters. Means are per request."""

    arrival_rps: float = 0.0
    """Requests per second over the stable window."""
    fast_arrival_rps: float = 0.0
    """The same over the fast window."""
    stable_window_s: float = 30.0
    fast_window_s: float = 6.0
    prompt_tokens: float = 0.0
    """Mean, cached ones included; 0 while nothing is known."""
    cached_tokens: float = 0.0
    completion_tokens: float = 0.0
    arriving_tokens_per_s: float = 0.0
    """Uncached prompt tokens that arrive plus completion tokens expected of them, for display."""
    work_per_request: float = 0.0
    """Token work (`penstock.performance.work`) of the mean request."""
    in_flight: int = 0
    """Requests at engines."""
    waiting_in_gateway: int = 0
    """Requests held in gateways for want of a replica."""
    backlog_requests: int = 0
    """Waiting in gateways and engines."""
    backlog_tokens: float = 0.0
    backlog_work: float = 0.0
    seconds_per_request: float | None = None
    """Mean time a request decodes: completion tokens times time per output token; None while unknown."""
    completed_requests: int = 0
    """How many completed requests the means rest on."""
    ttft_buckets: tuple[int, ...] = ()
    """Streams of the stable window by time to first token, per bucket of `LATENCY_BUCKETS_S`; empty when unknown."""
    tpot_buckets: tuple[int, ...] = ()
    idle_s: float = 0.0
    """Seconds since a request last arrived, waited or ran."""
    report_age_s: float | None = None
    """Seconds since any gateway last reported; None when none ever did."""
    silent_gateways: int = 0
    """Gateway processes that reported a while ago and not since: what arrives there is not seen."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """Work per second that one replica does when computing, not memory, limits it; learnt while requests queued."""

    work_per_s: float | None = None
    """None until there are enough samples."""
    samples: int = 0


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars, as decimal strings so that none is lost in binary."""

    usd_per_replica_hour: str = "0"
    ceiling_usd_per_hour: str | None = None


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What the law remembers between two decisions. Empty after a restart, which only ever delays a step down."""

    calm_since_s: float | None = None
    """Since when one replica fewer would do and every guard has been calm."""
    kv_short_since_s: float | None = None
    """Since when requests have waited for KV blocks on every replica."""
    queued_since_s: float | None = None
    """Since when requests have waited on every replica for something else."""
    panic_until_s: float | None = None


class ScalingSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one moment."""

    model: str
    at_s: float
    target: int
    """Replicas wanted now: the last decision, or what somebody set."""
    readings: tuple[ReplicaReading, ...] = ()
    demand: Demand = Demand()
    cold_start_s: float = 60.0
    """Measured time from the order of a replica to its first request."""
    capacity: Capacity = Capacity()
    prices: Prices = Prices()
    memory: Memory = Memory()
