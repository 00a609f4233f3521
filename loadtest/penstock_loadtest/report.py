"""The report of a load run, made from its records."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from penstock_loadtest.quantiles import Quantiles, quantiles
from penstock_loadtest.records import Outcome, RequestRecord


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Requests by what became of them: total = complete + failed + abandoned."""

    total: int
    complete: int
    failed: int
    failed_clean: int
    """The part of `failed` that came as errors in the OpenAI shape."""
    abandoned: int
    """Cut by the end of the run."""
    by_cause: dict[str, int]
    """Failures by outcome, with the error's code where there is one: `ErrorAnswer:rate_limit_exceeded`."""


class Second(msgspec.Struct, frozen=True, kw_only=True):
    """One second of the run."""

    t_s: int
    """Its beginning, since the first request."""
    started: int
    complete: int
    """Requests that ended well in it."""
    failed: int
    in_flight: float
    """Mean over the second."""
    tokens: float
    """Completion tokens: a stream's are spread evenly from its first token to its end."""


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a load run found."""

    started_s: float
    """Unix seconds of the first request; 0 when there was none."""
    duration_s: float
    """From the first request to the last end."""
    requests: RequestCounts
    prompt_tokens: int
    completion_tokens: int
    tokens_per_s: float
    """Completion tokens over the duration."""
    ttft_ms: Quantiles
    tpot_ms: Quantiles
    latency_ms: Quantiles
    """Whole requests; like the other two, of complete ones only."""
    timeline: tuple[Second, ...]


def summarise_records(records: Iterable[RequestRecord]) -> LoadReport:
    """Make the report of a run from its records, in any order."""
    ordered = sorted(records, key=lambda record: record.start_s)
    started_s = ordered[0].start_s if ordered else 0.0
    duration_s = max((r.start_s + r.duration_s - started_s for r in ordered), default=0.0)
    complete = [record for record in ordered if record.outcome is Outcome.COMPLETE]
    tokens = sum(record.completion_tokens for record in ordered)
    return LoadReport(
        started_s=started_s,
        duration_s=duration_s,
        requests=_count(ordered),
        prompt_tokens=sum(record.prompt_tokens for record in ordered),
        completion_tokens=tokens,
        tokens_per_s=tokens / duration_s if duration_s else 0.0,
        ttft_ms=quantiles([r.ttft_s * 1000 for r in complete if r.ttft_s is not None]),
        tpot_ms=quantiles([r.tpot_s * 1000 for r in complete if r.tpot_s is not None]),
        latency_ms=quantiles([r.duration_s * 1000 for r in complete]),
        timeline=_timeline(ordered, started_s, duration_s),
    )


def _count(records: Sequence[RequestRecord]) -> RequestCounts:
    outcomes = Counter(record.outcome for record in records)
    causes = Counter(
        f"{r.outcome}:{r.error_code}" if r.error_code else str(r.outcome) for r in records if r.outcome.failed
    )
    return RequestCounts(
        total=len(records),
        complete=outcomes[Outcome.COMPLETE],
        failed=sum(count for outcome, count in outcomes.items() if outcome.failed),
        failed_clean=sum(count for outcome, count in outcomes.items() if outcome.clean),
        abandoned=outcomes[Outcome.ABANDONED],
        by_cause=dict(causes.most_common()),
    )


def _timeline(records: Sequence[RequestRecord], started_s: float, duration_s: float) -> tuple[Second, ...]:
    length = math.floor(duration_s) + 1 if records else 0
    started, complete, failed = ([0] * length for _ in range(3))
    in_flight, tokens = [0.0] * length, [0.0] * length
    for record in records:
        begin_s = record.start_s - started_s
        end_s = begin_s + record.duration_s
        started[int(begin_s)] += 1
        if record.outcome is Outcome.COMPLETE:
            complete[int(end_s)] += 1
        elif record.outcome.failed:
            failed[int(end_s)] += 1
        _spread(in_flight, begin_s, end_s, end_s - begin_s)
        _spread(tokens, begin_s + (record.ttft_s or 0.0), end_s, record.completion_tokens)
    return tuple(
        Second(
            t_s=at,
            started=started[at],
            complete=complete[at],
            failed=failed[at],
            in_flight=in_flight[at],
            tokens=tokens[at],
        )
        for at in range(length)
    )


def _spread(seconds: list[float], begin_s: float, end_s: float, amount: float) -> None:
    """Add an amount to the seconds that an interval covers, to each by its share of the interval."""
    if end_s <= begin_s:
        seconds[min(int(end_s), len(seconds) - 1)] += amount
        return
    for at in range(int(begin_s), min(int(end_s), len(seconds) - 1) + 1):
        covered_s = min(end_s, at + 1) - max(begin_s, at)
        seconds[at] += amount * covered_s / (end_s - begin_s)
