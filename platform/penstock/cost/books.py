"""The books: all that is known at one moment, as plain data, and how far of it can be settled for good.

A replica is settled window by window: once every request that ran in a window is known, the window is attributed, its
amounts are added to the lines, and neither is looked at again. What is not settled yet is attributed anew for every
report. Settled amounts only ever grow, which is what Prometheus counters need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock.cost.attribution import Attribution, Category, Cause, Window, attribute
from penstock.cost.money import NS_PER_S, to_ns
from penstock.cost.records import InFlightMark, MeterReading, Outcome, UsageRecord
from penstock.cost.timeline import ReplicaTimeline, Span
from penstock.performance.work import NEUTRAL, WorkWeights

SETTLE_LAG_NS = 3 * NS_PER_S
"""Settling stays this far behind, so that a replica's events, polled once a second, are there before their time is."""

SETTLE_STEP_NS = 1 * NS_PER_S
"""Windows shorter than this are left for later, to save transactions."""


class LineKey(NamedTuple):
    """What an amount is for."""

    model: str
    bearer: str
    """`tenant`, or a segment's category: `idle`, `overhead`, `pending`."""
    name: str
    """The tenant's name, or the cause."""
    kind: str
    """`prompt`, `cached` or `completion` for tenants, otherwise empty."""


@dataclass(slots=True)
class Amount:
    """Money and, for tenants, the tokens it is for."""

    picousd: int = 0
    tokens: int = 0


Lines = dict[LineKey, Amount]

TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Settled:
    """How far one replica is settled."""

    until_ns: int = 0
    last_busy_ns: int | None = None
    closed: bool = False
    """Settled to the end of its life."""


@dataclass(frozen=True, slots=True)
class Books:
    """All that is known at one moment."""

    timelines: Mapping[str, ReplicaTimeline]
    minimum: Mapping[str, list[Span]]
    meters: Mapping[str, MeterReading]
    marks: tuple[InFlightMark, ...]
    """The newest one of every writer that is alive."""
    ever_marked: bool
    """Some writer has marked its spool, so that silence means that nothing is in flight."""
    settled: Mapping[str, Settled]
    usage: Mapping[str, list[UsageRecord]]
    """By replica, requests that ended after `settled[replica].until_ns`."""
    lines: Lines
    """What has been settled."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """How many records could not be counted, by reason."""

    def alive_until_ns(self, replica: str, now_ns: int) -> int:
        """Return how far a replica's life is known: its end, or when the meter saw it last, or now without a meter."""
        timeline = self.timelines[replica]
        if timeline.end_ns is not None:
            return timeline.end_ns
        meter = self.meters.get(replica)
        seen_ns = now_ns if meter is None else min(now_ns, to_ns(meter.seen_s))
        return max(seen_ns, timeline.start_ns, timeline.ready_ns or 0, timeline.drain_ns or 0)

    def known_until_ns(self, replica: str) -> int | None:
        """Return up to when every request at a replica has its record, or None when no living writer says so."""
        return min((to_ns(mark.oldest_start_s.get(replica, mark.at_s)) for mark in self.marks), default=None)

    def open_window(self, replica: str, now_ns: int, end_ns: int | None = None) -> Window:
        """Return the window from where a replica is settled to now, or to `end_ns` where that is earlier."""
        until_ns = self.alive_until_ns(replica, now_ns)
        if end_ns is not None:
            until_ns = min(until_ns, end_ns)
        known_ns = self.known_until_ns(replica)
        since_ns = self.settled.get(replica, Settled()).until_ns
        return Window(since_ns, until_ns if known_ns is None else min(known_ns, until_ns), until_ns)

    def settling_window(self, replica: str, now_ns: int) -> Window | None:
        """Return the window that can be settled for good now, or None."""
        timeline = self.timelines[replica]
        state = self.settled.get(replica, Settled())
        if state.closed:
            return None
        known_ns = self.known_until_ns(replica)
        if known_ns is None:
            # Without a mark requests may be in flight unseen; only an ended replica has none.
            known_ns = now_ns if self.ever_marked or timeline.end_ns is not None else 0
        known_ns = min(known_ns, now_ns - SETTLE_LAG_NS, self.alive_until_ns(replica, now_ns))
        if timeline.end_ns is not None and known_ns >= timeline.end_ns:
            return Window(state.until_ns, max(known_ns, state.until_ns), max(known_ns, state.until_ns))
        if timeline.ready_ns is None and timeline.drain_ns is None:
            return None  # whether this was a cold start or a failed one shows at its end
        if known_ns - state.until_ns < SETTLE_STEP_NS or known_ns <= timeline.start_ns:
            # A request that a clock behind puts before the life counts in the life's first window: a window that ends
            # before it begins would come between the two.
            return None
        return Window(state.until_ns, known_ns, known_ns)

    def attribute(self, replica: str, window: Window, weights: WorkWeights = NEUTRAL) -> Attribution:
        """Attribute one window of one replica."""
        return attribute(
            self.timelines[replica],
            self.usage.get(replica, ()),
            window,
            minimum=self.minimum.get(replica, ()),
            last_busy_ns=self.settled.get(replica, Settled()).last_busy_ns,
            weights=weights,
        )


def add_lines(lines: Lines, attributions: Iterable[Attribution]) -> None:
    """Add attributed windows to `lines`: segments that are not busy by cause, receipts by tenant and kind of token."""
    for attribution in attributions:
        model = attribution.timeline.model
        for segment in attribution.segments:
            if segment.category is not Category.BUSY:
                key = LineKey(model, segment.category.value, segment.cause.value if segment.cause else "", "")
                lines.setdefault(key, Amount()).picousd += segment.cost_picousd
        for receipt in attribution.receipts:
            record, share = receipt.record, receipt.share
            if record.outcome is Outcome.FAILED:
                key = LineKey(model, Category.OVERHEAD.value, Cause.FAILED.value, "")
                lines.setdefault(key, Amount()).picousd += share.total
                continue
            cached = min(record.cached_tokens, record.prompt_tokens)
            for kind, picousd, tokens in (
                ("prompt", share.prompt, record.prompt_tokens - cached),
                ("cached", share.cached, cached),
                ("completion", share.completion, record.completion_tokens),
            ):
                amount = lines.setdefault(LineKey(model, TENANT, record.tenant, kind), Amount())
                amount.picousd += picousd
                amount.tokens += tokens if receipt.ended else 0
