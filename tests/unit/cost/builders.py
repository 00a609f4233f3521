"""Short ways to write money records."""

from __future__ import annotations

from penstock.cost.records import MeterReading, Outcome, ReplicaEvent, ReplicaEventKind, UsageRecord

USD_A_SECOND = "3600"
"""Price per hour at which a second costs a dollar: amounts in tests are then seconds."""


def usage(
    name: str,
    start_s: float,
    end_s: float,
    *,
    first_s: float | None = None,
    prompt: int = 10,
    cached: int = 0,
    completion: int = 1,
    tenant: str = "acme",
    replica: str = "r1",
    outcome: Outcome = Outcome.COMPLETE,
) -> UsageRecord:
    return UsageRecord(
        id=name,
        tenant=tenant,
        route="tiny",
        model="tiny",
        variant="tiny--cpu",
        replica=replica,
        start_s=start_s,
        first_token_s=first_s,
        end_s=end_s,
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        outcome=outcome,
        partial=False,
    )


def step(
    kind: ReplicaEventKind,
    at_s: float,
    *,
    replica: str = "r1",
    cause: str = "MinReplicas",
    usd_per_hour: str = USD_A_SECOND,
    model: str = "tiny",
) -> ReplicaEvent:
    return ReplicaEvent(
        replica=replica,
        kind=kind,
        at_s=at_s,
        model=model,
        variant=f"{model}--cpu",
        accelerator_class="cpu",
        accelerators=1,
        purchase="OnDemand",
        usd_per_hour=usd_per_hour,
        cause=cause,
    )


def life(
    *,
    start: float | None = None,
    ready: float | None = None,
    drain: float | None = None,
    end: float | None = None,
    replica: str = "r1",
    cause: str = "MinReplicas",
    usd_per_hour: str = USD_A_SECOND,
) -> list[ReplicaEvent]:
    """The events of one replica at the times given; `cause` is the start's."""
    times = zip(ReplicaEventKind, (start, ready, drain, end), strict=True)
    return [
        step(kind, at_s, replica=replica, cause=cause, usd_per_hour=usd_per_hour)
        for kind, at_s in times
        if at_s is not None
    ]


def reading(
    began_s: float, seen_s: float, *, replica: str = "r1", ended: bool = True, usd_per_hour: str = USD_A_SECOND
) -> MeterReading:
    return MeterReading(replica=replica, began_s=began_s, seen_s=seen_s, ended=ended, usd_per_hour=usd_per_hour)
