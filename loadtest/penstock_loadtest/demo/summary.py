"""From the evidence of a run to its report."""

from __future__ import annotations

import msgspec

from penstock.cost.records import Outcome, UsageRecord
from penstock.cost.report import CostReport
from penstock.scaling.decision import Decision, Direction
from penstock_loadtest.demo.report import (
    DemoReport,
    Mark,
    StreamCounts,
    Usd,
    alive_at,
    count_requests,
    replica_changes,
    target_steps,
)
from penstock_loadtest.demo.scenario import MODEL, Evidence
from penstock_loadtest.records import Outcome as ClientOutcome
from penstock_loadtest.records import RequestRecord
from penstock_loadtest.report import summarise_records


def make_report(evidence: Evidence) -> DemoReport:
    """Make the report of a run that has ended."""
    platform, samples = evidence.platform, evidence.watch.samples
    decisions = platform.decisions(MODEL)
    usage = platform.usage([record.request_id for record in evidence.records if record.request_id])
    requests = count_requests(evidence.records, _lost_to_kill(evidence, usage))
    changes = replica_changes(samples)
    load = summarise_records(evidence.records)
    usd = _usd(platform.cost())
    kv_usage_max = max((sample.kv_usage for sample in samples), default=0.0)
    steps = ", ".join(str(step) for step in target_steps(changes))
    return DemoReport(
        summary=(
            f"{requests.completed} of {requests.total} requests completed, {requests.lost_to_kill} were lost to the "
            f"kill, {requests.failed} failed otherwise. Replicas asked for: {steps}. Highest KV usage "
            f"{kv_usage_max:.0%}. {usd.paid:.4f} USD paid, {usd.drift_ratio:+.2%} of it unattributed."
        ),
        duration_s=round(evidence.watch.now_s(), 1),
        requests=requests,
        streams=_streams(evidence, decisions, usage),
        replicas=changes,
        kv_usage_max=kv_usage_max,
        decisions=[msgspec.to_builtins(decision) for decision in decisions],
        ttft_ms=load.ttft_ms,
        tpot_ms=load.tpot_ms,
        usd=usd,
        timeline=_timeline(evidence, decisions),
        samples=samples,
    )


def _lost_to_kill(evidence: Evidence, usage: dict[str, UsageRecord]) -> frozenset[str]:
    return frozenset(
        name
        for name, record in usage.items()
        if record.replica == evidence.killed_replica and record.outcome is Outcome.FAILED
    )


def _streams(evidence: Evidence, decisions: list[Decision], usage: dict[str, UsageRecord]) -> StreamCounts:
    down = next((one for one in reversed(decisions) if one.direction is Direction.DOWN), None)
    alive = alive_at(evidence.records, down.at_s) if down else []
    return StreamCounts(
        alive_at_drain=len(alive),
        alive_on_drained_replica=sum(_replica_of(one, usage) in evidence.drained_replicas for one in alive),
        cut_by_scaling=sum(one.outcome is not ClientOutcome.COMPLETE for one in alive),
    )


def _replica_of(record: RequestRecord, usage: dict[str, UsageRecord]) -> str | None:
    used = usage.get(record.request_id)
    return used.replica if used else None


def _usd(cost: CostReport) -> Usd:
    per_million = cost.per_million_tokens
    return Usd(
        paid=cost.paid_usd,
        tenants=cost.tenants_usd,
        idle=cost.idle_usd,
        overhead=cost.overhead_usd,
        unattributed=cost.unattributed_usd,
        drift_ratio=cost.drift_ratio or 0.0,
        per_million_tokens={
            "prompt": per_million.prompt,
            "cached": per_million.cached,
            "completion": per_million.completion,
            "blended": per_million.blended,
            "blended_allocated": per_million.blended_allocated,
        },
        idle_by_cause=cost.idle_by_cause_usd,
        overhead_by_cause=cost.overhead_by_cause_usd,
    )


def _timeline(evidence: Evidence, decisions: list[Decision]) -> list[Mark]:
    began_s = evidence.watch.began_s
    moves = [
        Mark(
            t_s=round(one.at_s - began_s, 1),
            kind="Decision",
            text=f"{one.target_before} -> {one.target_after}, ruled by {one.ruling}: {one.reason}",
            label=f"{one.target_before} to {one.target_after}: {one.ruling}",
        )
        for one in decisions
        if one.direction is not Direction.HOLD
    ]
    events = [
        Mark(t_s=round(event.t_s - began_s, 1), kind=event.kind, text=event.text)
        for event in evidence.platform.events()
        if event.kind != "Target"  # the decisions say the same with their reasons
    ]
    return sorted([*evidence.marks, *moves, *events], key=lambda mark: mark.t_s)
