"""The state of the platform as `status.json` tells it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.control.brain import ModelState
from penstock.control.replicas import Life
from penstock.control.status import ModelStatus, ReplicaStatus
from penstock.cost.report import CostReport
from penstock.engines.base import EngineLoad
from penstock.routing.load import LATENCY_BUCKETS_S
from penstock.scaling.decision import cause_of
from penstock.scaling.snapshot import ReplicaPhase


def replica_status(life: Life, reading: EngineLoad | None, engine_pid: int | None, *, leaving: bool) -> ReplicaStatus:
    """Return one replica as last seen."""
    return ReplicaStatus(
        id=life.id,
        variant=life.variant,
        state=ReplicaPhase.DRAINING if leaving else life.phase,
        since_s=life.since_s,
        pid=life.pid,
        engine_pid=engine_pid,
        address=life.address,
        port=life.port,
        kv_usage=None if reading is None else reading.kv_usage,
        running=None if reading is None else reading.running,
        waiting=None if reading is None else reading.waiting,
        preemptions=None if reading is None else reading.preemptions,
        accelerator_class=life.application.accelerator_class,
        purchase=life.application.purchase,
    )


def model_status(
    name: str,
    state: ModelState,
    replicas: Sequence[ReplicaStatus],
    *,
    rates: tuple[float, float],
    usd_per_hour: float,
    report: CostReport | None,
) -> ModelStatus:
    """Return one model as last seen.

    Args:
        name: The model's.
        state: What the loop keeps of it.
        replicas: Those that have not ended.
        rates: Prompt and completion tokens per second.
        usd_per_hour: What its replicas cost together.
        report: The newest cost report.
    """
    ready = [replica for replica in replicas if replica.state is ReplicaPhase.READY]
    usages = [replica.kv_usage for replica in ready if replica.kv_usage is not None]
    account = report.by_model.get(name) if report else None
    demand = state.snapshot.demand if state.snapshot else None
    return ModelStatus(
        name=name,
        target=state.target,
        ready=len(ready),
        starting=sum(replica.state is ReplicaPhase.STARTING for replica in replicas),
        draining=sum(replica.state is ReplicaPhase.DRAINING for replica in replicas),
        replicas=tuple(replicas),
        conditions=state.conditions,
        decision=None if state.decision is None else plain(state.decision),
        why="" if state.decision is None else cause_of(state.decision),
        kv_usage=max(usages, default=None),
        queue=(demand.waiting_in_gateway if demand else 0) + sum(replica.waiting or 0 for replica in ready),
        prompt_tokens_per_s=round(rates[0], 1),
        completion_tokens_per_s=round(rates[1], 1),
        ttft_p95_s=bucket_quantile(demand.ttft_buckets, 0.95) if demand else None,
        usd_per_hour=usd_per_hour,
        usd_per_million_tokens=None if account is None else account.per_million_tokens.blended_allocated,
        idle_share=(
            None if account is None or not account.paid_usd else sum(account.idle_usd.values()) / account.paid_usd
        ),
        since_s=state.since_s,
    )


def plain(decision: msgspec.Struct) -> dict[str, Any]:
    """Return a record as the JSON data that a log line of it holds."""
    data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(decision))
    return data


def bucket_quantile(counts: Sequence[int], quantile: float) -> float | None:
    """Return a quantile of a latency histogram, seconds, interpolated within its bucket; None when it is empty.

    What lies above the last bound is told as that bound.
    """
    total = sum(counts)
    if not total:
        return None
    rank, passed, low = quantile * total, 0, 0.0
    for count, high in zip(counts, LATENCY_BUCKETS_S, strict=False):
        if count and passed + count >= rank:
            return low + (high - low) * (rank - passed) / count
        passed += count
        low = high
    return LATENCY_BUCKETS_S[-1]


def replica_prices(lives: Mapping[str, Life], model: str) -> float:
    """Return dollars per hour of all replicas of a model that have not ended."""
    return float(sum(life.application.usd_per_hour for life in lives.values() if life.model == model))
