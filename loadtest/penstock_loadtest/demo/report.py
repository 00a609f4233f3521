"""What the demo writes down: `report.json`, made from what the watch saw, what clients got and what the ledger says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from penstock_loadtest.demo.watch import Sample
from penstock_loadtest.quantiles import Quantiles
from penstock_loadtest.records import Outcome, RequestRecord


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the timeline."""

    t_s: float
    """Seconds since the demo began."""
    kind: str
    """Of the demo: `Step`, `Ready`, `Kill`; of the platform: `Decision`, `Replica`, `Condition`, and so on."""
    text: str
    label: str = ""
    """A word or two for the time axis."""


class ReplicaCount(msgspec.Struct, frozen=True, kw_only=True):
    """A change in how many replicas are asked for or serve."""

    t_s: float
    target: int
    ready: int
    cause: str


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How requests ended. `failed` leaves out those that the killed engine took with it."""

    total: int
    completed: int
    abandoned: int
    """Cut by the demo itself when it stopped the load."""
    failed: int
    lost_to_kill: int
    """Ran on the engine that was killed, and got an error for it."""
    lost_without_clean_error: int
    """The part of `lost_to_kill` whose error had not the OpenAI shape."""
    failed_by_cause: dict[str, int]


class StreamCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The streams that were alive when the platform began to drain a replica."""

    alive_at_drain: int
    alive_on_drained_replica: int
    cut_by_scaling: int


class Usd(msgspec.Struct, frozen=True, kw_only=True):
    """The bill of the whole run."""

    paid: float
    """From the meter: process uptime x price."""
    tenants: float
    idle: float
    overhead: float
    unattributed: float
    drift_ratio: float
    """`unattributed` over `paid`."""
    per_million_tokens: dict[str, float | None]
    """By denominator (`penstock.cost.report`); None where no such token was used."""
    idle_by_cause: dict[str, float]
    overhead_by_cause: dict[str, float]


class DemoReport(msgspec.Struct, frozen=True, kw_only=True):
    """`report.json`."""

    summary: str
    duration_s: float
    requests: RequestCounts
    streams: StreamCounts
    replicas: list[ReplicaCount]
    kv_usage_max: float
    decisions: list[dict[str, Any]]
    ttft_ms: Quantiles
    tpot_ms: Quantiles
    usd: Usd
    timeline: list[Mark]
    samples: list[Sample]


def count_requests(records: Sequence[RequestRecord], lost_ids: frozenset[str]) -> RequestCounts:
    """Count how requests ended; `lost_ids` are those that ran on the engine when it was killed."""
    failed = [record for record in records if record.outcome.failed]
    lost = [record for record in failed if record.request_id in lost_ids]
    others = [record for record in failed if record.request_id not in lost_ids]
    return RequestCounts(
        total=len(records),
        completed=sum(record.outcome is Outcome.COMPLETE for record in records),
        abandoned=sum(record.outcome is Outcome.ABANDONED for record in records),
        failed=len(others),
        lost_to_kill=len(lost),
        lost_without_clean_error=sum(not record.outcome.clean for record in lost),
        failed_by_cause=dict(Counter(f"{record.outcome}: {record.message}" for record in others)),
    )


def alive_at(records: Sequence[RequestRecord], at_s: float) -> list[RequestRecord]:
    """Return the requests that had begun and not ended at a moment (Unix seconds)."""
    return [record for record in records if record.start_s < at_s < record.start_s + record.duration_s]


def replica_changes(samples: Sequence[Sample]) -> list[ReplicaCount]:
    """Return the moments at which target or ready changed, each with the reason given at that moment."""
    changes: list[ReplicaCount] = []
    for sample in samples:
        if changes and (changes[-1].target, changes[-1].ready) == (sample.target, sample.ready):
            continue
        changes.append(ReplicaCount(t_s=sample.t_s, target=sample.target, ready=sample.ready, cause=sample.why))
    return changes


def target_steps(changes: Sequence[ReplicaCount]) -> list[int]:
    """Return the targets in order, each named once a change: `[1, 2, 1]` for up and down again."""
    steps: list[int] = []
    for change in changes:
        if not steps or steps[-1] != change.target:
            steps.append(change.target)
    return steps
