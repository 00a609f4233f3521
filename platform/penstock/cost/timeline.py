"""Replica timelines: events put in order, and which replicas make up a model's minimum at each moment."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from penstock.cost.money import price_picousd_per_hour, to_ns
from penstock.cost.records import ReplicaEvent, ReplicaEventKind

MIN_REPLICAS = "MinReplicas"
"""`ReplicaEvent.cause` of a start that the model's minimum asked for."""

RECOVERY = "Recovery"
"""`ReplicaEvent.cause` of a start that replaces a replica which died."""

Span = tuple[int, int]
"""`[start, end)` in nanoseconds."""


@dataclass(frozen=True, slots=True)
class ReplicaTimeline:
    """One replica's life in nanoseconds, in order: `start <= ready <= drain <= end`, as far as they are known."""

    replica: str
    model: str
    variant: str
    price_picousd_per_hour: int
    start_ns: int
    ready_ns: int | None
    drain_ns: int | None
    end_ns: int | None
    start_cause: str
    mended: int
    """How many steps were missing or out of order and had to be inferred from their neighbours."""


def timeline_of(events: Iterable[ReplicaEvent]) -> ReplicaTimeline:
    """Put one replica's events in order. Of several events of one kind the first counts.

    A replica without a `Start` begins at its earliest event. A step that claims to lie before the one it follows
    (clocks of different machines) is moved to that one's time. A `Ready` may be missing for good: it never was.

    Raises:
        ValueError: There are no events, or the price is no number.
    """
    ordered = sorted(events, key=lambda event: event.at_s)
    if not ordered:
        raise ValueError("a replica without events has no timeline")
    steps: dict[ReplicaEventKind, ReplicaEvent] = {}
    for event in ordered:
        steps.setdefault(event.kind, event)
    first = steps.get(ReplicaEventKind.START, ordered[0])
    mended = int(first.kind is not ReplicaEventKind.START)
    floor_ns = start_ns = to_ns(first.at_s)
    times: list[int | None] = []
    for kind in (ReplicaEventKind.READY, ReplicaEventKind.DRAIN, ReplicaEventKind.END):
        step = steps.get(kind)
        if step is None:
            times.append(None)
            continue
        at_ns = to_ns(step.at_s)
        mended += at_ns < floor_ns
        floor_ns = max(at_ns, floor_ns)
        times.append(floor_ns)
    return ReplicaTimeline(
        replica=first.replica,
        model=first.model,
        variant=first.variant,
        price_picousd_per_hour=price_picousd_per_hour(first.usd_per_hour),
        start_ns=start_ns,
        ready_ns=times[0],
        drain_ns=times[1],
        end_ns=times[2],
        start_cause=first.cause,
        mended=mended,
    )


def timelines_of(events: Iterable[ReplicaEvent]) -> dict[str, ReplicaTimeline]:
    """Return every replica's timeline, by replica."""
    by_replica: defaultdict[str, list[ReplicaEvent]] = defaultdict(list)
    for event in events:
        by_replica[event.replica].append(event)
    return {replica: timeline_of(own) for replica, own in by_replica.items()}


def minimum_spans(timelines: Mapping[str, ReplicaTimeline]) -> dict[str, list[Span]]:
    """Return, by replica, when it was part of its model's minimum; an open last span ends at `OPEN_NS`.

    Events do not carry the minimum, so it is read off them: the most replicas started for the minimum's sake that a
    model ever had at once, up to that moment. The minimum is held by the replicas that have served longest, whatever
    they were started for: when the first one is drained, its successor takes its place.
    """
    by_model: defaultdict[str, list[ReplicaTimeline]] = defaultdict(list)
    for timeline in timelines.values():
        by_model[timeline.model].append(timeline)
    spans: dict[str, list[Span]] = {replica: [] for replica in timelines}
    for own in by_model.values():
        _walk_model(own, spans)
    return spans


OPEN_NS = 2**63 - 1
"""A time after all others."""


def _walk_model(timelines: list[ReplicaTimeline], spans: dict[str, list[Span]]) -> None:
    changes: list[tuple[int, int, int, str]] = []
    for line in timelines:
        leave_ns = min(line.drain_ns or OPEN_NS, line.end_ns or OPEN_NS)
        if line.start_cause == MIN_REPLICAS:
            changes += [(line.start_ns, 1, 1, line.replica), (leave_ns, 0, -1, line.replica)]
        if line.ready_ns is not None and line.ready_ns < leave_ns:
            changes += [(line.ready_ns, 2, line.ready_ns, line.replica), (leave_ns, 3, line.ready_ns, line.replica)]
    asked = minimum = 0
    serving: list[tuple[int, str]] = []
    since: dict[str, int] = {}
    for at_ns, step, value, replica in sorted(changes):
        if step < 2:
            asked += value
            minimum = max(minimum, asked)
        elif step == 2:
            insort(serving, (value, replica))
        else:
            del serving[bisect_left(serving, (value, replica))]
        holders = {name for _, name in serving[:minimum]}
        for name in since.keys() - holders:
            began_ns = since.pop(name)
            if began_ns < at_ns:
                spans[name].append((began_ns, at_ns))
        for name in holders - since.keys():
            since[name] = at_ns
    for name, began_ns in since.items():
        spans[name].append((began_ns, OPEN_NS))
