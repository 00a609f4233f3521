"""Sharing busy time: what each request owes of the seconds in which it had an engine together with others.

A request's work is spread evenly over its phases: prompt work from its start to its first token, completion work from
there to its end. At any moment the replica's price is shared in proportion to the rates of work that are resident. The
sum over moments is not taken request by request but through one running integral, price time over total rate, of which
each phase takes the difference between its ends: a sweep over 2 n ends instead of n squared overlaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.cost.money import split_picousd, to_ns
from penstock.cost.records import UsageRecord
from penstock.performance.work import WorkSplit, WorkWeights, split_work

_RATE_UNIT = 2**96
"""Rates are integers in this fraction of work per nanosecond, so that adding and taking away leaves exactly nothing."""

_INTEGRAL_BITS = 256
_INTEGRAL_UNIT = 1 << _INTEGRAL_BITS
"""The running integral is a fixed-point integer: as a float it would lose what busy seconds add to it after a stretch
in which next to nothing was resident."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of one request over which its work is spread evenly."""

    record: int
    """Index of the request."""
    start_ns: int
    end_ns: int
    work: WorkSplit

    @property
    def rate(self) -> int:
        """Work per nanosecond in integer units; at least one, so that a resident request is never weightless."""
        return max(1, round(self.work.total * _RATE_UNIT) // (self.end_ns - self.start_ns))


@dataclass(slots=True)
class BusyPeriod:
    """A longest stretch in which at least one request was resident, and each phase's due part of it."""

    start_ns: int
    end_ns: int
    phases: list[Phase]
    dues: list[float]
    """By phase, in nanoseconds of the whole replica; they add up to the period, but for the rounding of floats."""


@dataclass(slots=True)
class Share:
    """What one request owes of a period, by kind of token, in picodollars."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        """All three together."""
        return self.prompt + self.cached + self.completion


def phases_of(index: int, record: UsageRecord, weights: WorkWeights, life: tuple[int, int]) -> tuple[list[Phase], bool]:
    """Return a request's phases clipped to its replica's life `[start, end]`, and whether anything was clipped.

    Answers without a first token (unary, or broken before it) have one phase with all the work. A request that was
    never inside the replica's life has none: nothing was paid for while it ran.
    """
    start_ns, end_ns = to_ns(record.start_s), to_ns(record.end_s)
    first_ns = end_ns if record.first_token_s is None else to_ns(record.first_token_s)
    ordered = start_ns <= first_ns <= end_ns
    low, high = life
    clip_start, clip_end = max(start_ns, low), min(max(start_ns, end_ns), high)
    clipped = not ordered or clip_start != start_ns or clip_end != end_ns
    if clip_end <= clip_start:
        return [], clipped
    work = split_work(record.prompt_tokens, record.cached_tokens, record.completion_tokens, weights)
    middle = min(max(first_ns, clip_start), clip_end)
    if record.first_token_s is None or middle in (clip_start, clip_end):
        return [Phase(index, clip_start, clip_end, work)], clipped
    prompt = WorkSplit(prompt=work.prompt, cached=work.cached, completion=0.0)
    completion = WorkSplit(prompt=0.0, cached=0.0, completion=work.completion)
    return [Phase(index, clip_start, middle, prompt), Phase(index, middle, clip_end, completion)], clipped


def busy_periods(phases: Iterable[Phase], since_ns: int, until_ns: int) -> list[BusyPeriod]:
    """Sweep phases into busy periods within `[since_ns, until_ns)`, in order of time."""
    inside = [phase for phase in phases if phase.end_ns > since_ns and phase.start_ns < until_ns]
    rates = [phase.rate for phase in inside]
    ends: list[tuple[int, int, int]] = []
    for index, phase in enumerate(inside):
        # Starts sort before ends of the same moment: a request that follows another at once leaves no gap.
        ends.append((max(phase.start_ns, since_ns), 0, index))
        ends.append((min(phase.end_ns, until_ns), 1, index))
    ends.sort()
    periods: list[BusyPeriod] = []
    integral = 0
    at_start = [0] * len(inside)
    now_ns = resident_rate = 0
    for at_ns, is_end, index in ends:
        if resident_rate == 0:
            periods.append(BusyPeriod(at_ns, at_ns, [], []))
            integral = 0
        else:
            integral += ((at_ns - now_ns) << _INTEGRAL_BITS) // resident_rate
        now_ns = at_ns
        if is_end:
            resident_rate -= rates[index]
            period = periods[-1]
            period.end_ns = at_ns
            period.phases.append(inside[index])
            period.dues.append(rates[index] * (integral - at_start[index]) / _INTEGRAL_UNIT)
        else:
            resident_rate += rates[index]
            at_start[index] = integral
    return periods


def share_period(period: BusyPeriod, cost_picousd: int, shares: Sequence[Share]) -> None:
    """Add a period's cost to the requests that were resident in it, exactly, by kind of token."""
    weights: list[float] = []
    for phase, due in zip(period.phases, period.dues, strict=True):
        work = phase.work
        total = work.total
        if total > 0:
            weights += (due * work.prompt / total, due * work.cached / total, due * work.completion / total)
        else:
            weights += (due, 0.0, 0.0)  # no tokens known: it held the replica, and its prompt is what it held it with
    parts = iter(split_picousd(cost_picousd, weights))
    for phase, prompt, cached, completion in zip(period.phases, parts, parts, parts, strict=True):
        share = shares[phase.record]
        share.prompt += prompt
        share.cached += cached
        share.completion += completion
