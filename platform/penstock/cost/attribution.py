"""Attribution: one replica's paid time cut into segments, each measured on its own and each given to somebody.

Every nanosecond of a replica's life falls into exactly one segment, by what is known of that moment: requests resident
(busy), none and serving (idle), none and not serving yet (overhead), or not known yet (pending). Idle is thus a sum of
measured gaps. Nothing here is found by subtracting from what was paid, which `penstock.cost.report` compares with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from penstock.cost.money import NS_PER_S, span_cost_picousd, to_ns
from penstock.cost.records import UsageRecord
from penstock.cost.sharing import Phase, Share, busy_periods, phases_of, share_period
from penstock.cost.timeline import RECOVERY, ReplicaTimeline, Span
from penstock.performance.work import NEUTRAL, WorkWeights


class Category(StrEnum):
    """Who bears a segment's cost."""

    BUSY = "busy"
    """The requests that were resident."""
    IDLE = "idle"
    """Nobody's: the replica served and had nothing to do."""
    OVERHEAD = "overhead"
    """The platform's: the replica did not serve, or what it did was lost."""
    PENDING = "pending"
    """Not known yet: requests whose records have not come ran in it."""


class Cause(StrEnum):
    """Why a segment is idle or overhead."""

    MIN_REPLICAS = "min_replicas"
    """Idle: the model's minimum keeps the replica."""
    HEADROOM = "headroom"
    """Idle: short gaps between requests of a replica beyond the minimum."""
    COOLDOWN = "cooldown"
    """Idle: longer gaps, which last until the scaler has been calm for long enough."""
    RECOVERY = "recovery"
    """Idle: a replacement that has had no request yet. Overhead: its cold start."""
    DRAIN = "drain"
    """Idle: told to end, takes no new requests, and has none left."""
    COLD_START = "cold_start"
    """Overhead: from start to ready."""
    FAILED_START = "failed_start"
    """Overhead: ended without ever having been ready, and without having been told to."""
    FAILED = "failed"
    """Overhead: the share of requests that failed."""


@dataclass(frozen=True, slots=True)
class IdleRules:
    """How idle time beyond the minimum is told apart."""

    short_gap_s: float = 5.0
    """Idle up to this long after the last request is `headroom`, the rest of the gap is `cooldown`."""


@dataclass(frozen=True, slots=True)
class Window:
    """The stretch of time to attribute, in nanoseconds."""

    since_ns: int
    known_ns: int
    """Up to here every request's record is known."""
    until_ns: int
    """From `known_ns` to here time is pending."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a replica's life with one category and cause. Busy segments have no cause of their own."""

    start_ns: int
    end_ns: int
    category: Category
    cause: Cause | None
    cost_picousd: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one request owes of the window; requests that neither owe anything nor end in it have none."""

    record: UsageRecord
    share: Share
    ended: bool
    """The request ended in this window: its tokens are counted here and in no other window."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """One replica's window, attributed: busy segments add up to the receipts, exactly."""

    timeline: ReplicaTimeline
    segments: list[Segment]
    receipts: list[Receipt]
    clipped_records: int
    """Records that ended in this window and reached out of the replica's life, or had their times out of order: clocks
    disagree. What reached out is not charged to anybody."""
    last_busy_ns: int | None
    """When the last request known so far ended; the next window needs it."""

    @property
    def cost_picousd(self) -> int:
        """All segments together: the price of the window, but for what lies outside of the replica's life."""
        return sum(segment.cost_picousd for segment in self.segments)


def attribute(
    timeline: ReplicaTimeline,
    records: Sequence[UsageRecord],
    window: Window,
    *,
    minimum: Sequence[Span] = (),
    last_busy_ns: int | None = None,
    weights: WorkWeights = NEUTRAL,
    rules: IdleRules = IdleRules(),
) -> Attribution:
    """Attribute one replica's window.

    Args:
        timeline: The replica's life.
        records: Requests it served, each id once, any order; those outside the window take no part.
        window: What to attribute. Windows that follow each other add up to the window that they make together; the
            first that knows all up to the life's end is the last.
        minimum: When the replica was part of its model's minimum (`penstock.cost.timeline.minimum_spans`).
        last_busy_ns: `Attribution.last_busy_ns` of the window before.
        weights: Work per token of each kind.
        rules: How idle time is told apart.
    """
    start_ns = max(window.since_ns, timeline.start_ns)
    end_ns = window.until_ns if timeline.end_ns is None else min(window.until_ns, timeline.end_ns)
    known_ns = min(max(window.known_ns, start_ns), end_ns)
    phases: list[Phase] = []
    clipped_records = 0
    ended = [_ends_inside(record, timeline, window) for record in records]
    for index, record in enumerate(records):
        # While the end is open nothing is clipped: a record may reach past the window and come again in the next one.
        high = timeline.end_ns or to_ns(record.end_s)
        own, clipped = phases_of(index, record, weights, (timeline.start_ns, high))
        phases += own
        clipped_records += clipped and ended[index]
    shares = [Share() for _ in records]
    segments: list[Segment] = []

    def add(low: int, high: int, category: Category, cause: Cause | None) -> int:
        cost = span_cost_picousd(timeline.price_picousd_per_hour, timeline.start_ns, low, high)
        segments.append(Segment(low, high, category, cause, cost))
        return cost

    gaps = _Gaps(timeline, minimum, round(rules.short_gap_s * NS_PER_S))
    free_ns = start_ns
    for period in busy_periods(phases, start_ns, known_ns) if known_ns > start_ns else ():
        for low, high, category, cause in gaps.cut(free_ns, period.start_ns, last_busy_ns):
            add(low, high, category, cause)
        share_period(period, add(period.start_ns, period.end_ns, Category.BUSY, None), shares)
        last_busy_ns = free_ns = period.end_ns
    for low, high, category, cause in gaps.cut(free_ns, known_ns, last_busy_ns):
        add(low, high, category, cause)
    if known_ns < end_ns:
        add(known_ns, end_ns, Category.PENDING, None)
    receipts = [Receipt(*row) for row in zip(records, shares, ended, strict=True) if row[2] or row[1].total]
    return Attribution(timeline, segments, receipts, clipped_records, last_busy_ns)


def _ends_inside(record: UsageRecord, timeline: ReplicaTimeline, window: Window) -> bool:
    # A request from before the replica's life counts in the life's first window, one from after it in the last.
    end_ns = max(to_ns(record.end_s), timeline.start_ns)
    closing = timeline.end_ns is not None and timeline.end_ns <= window.known_ns
    return window.since_ns < end_ns and (closing or end_ns <= window.known_ns)


@dataclass(frozen=True, slots=True)
class _Gaps:
    """Cuts a stretch without requests by why there were none."""

    timeline: ReplicaTimeline
    minimum: Sequence[Span]
    short_gap_ns: int

    def cut(self, start_ns: int, end_ns: int, last_busy_ns: int | None) -> Iterator[tuple[int, int, Category, Cause]]:
        """Yield `(start, end, category, cause)` in order of time; together they are `[start_ns, end_ns)`."""
        line = self.timeline
        leave_ns = end_ns if line.drain_ns is None else min(max(line.drain_ns, start_ns), end_ns)
        ready_ns = leave_ns if line.ready_ns is None else min(max(line.ready_ns, start_ns), leave_ns)
        if start_ns < ready_ns:
            yield start_ns, ready_ns, Category.OVERHEAD, self._start_cause()
        if ready_ns < leave_ns:
            yield from self._idle(ready_ns, leave_ns, last_busy_ns)
        if leave_ns < end_ns:
            yield leave_ns, end_ns, *self._drain(last_busy_ns)

    def _start_cause(self) -> Cause:
        line = self.timeline
        if line.ready_ns is None and line.drain_ns is None and line.end_ns is not None:
            return Cause.FAILED_START
        return Cause.RECOVERY if line.start_cause == RECOVERY else Cause.COLD_START

    def _drain(self, last_busy_ns: int | None) -> tuple[Category, Cause]:
        served = self.timeline.ready_ns is not None or last_busy_ns is not None
        return (Category.IDLE, Cause.DRAIN) if served else (Category.OVERHEAD, self._start_cause())

    def _idle(self, start_ns: int, end_ns: int, last_busy_ns: int | None) -> Iterator[tuple[int, int, Category, Cause]]:
        held_ns = start_ns
        for low, high in self.minimum:
            low, high = max(low, held_ns), min(high, end_ns)  # noqa: PLW2901 - clipped
            if low >= high:
                continue
            yield from self._beyond_minimum(held_ns, low, last_busy_ns)
            yield low, high, Category.IDLE, Cause.MIN_REPLICAS
            held_ns = high
        yield from self._beyond_minimum(held_ns, end_ns, last_busy_ns)

    def _beyond_minimum(
        self, start_ns: int, end_ns: int, last_busy_ns: int | None
    ) -> Iterator[tuple[int, int, Category, Cause]]:
        if start_ns >= end_ns:
            return
        if last_busy_ns is None and self.timeline.start_cause == RECOVERY:
            yield start_ns, end_ns, Category.IDLE, Cause.RECOVERY
            return
        ready_ns = self.timeline.ready_ns or self.timeline.start_ns
        calm_ns = min(max((last_busy_ns or ready_ns) + self.short_gap_ns, start_ns), end_ns)
        if start_ns < calm_ns:
            yield start_ns, calm_ns, Category.IDLE, Cause.HEADROOM
        if calm_ns < end_ns:
            yield calm_ns, end_ns, Category.IDLE, Cause.COOLDOWN
