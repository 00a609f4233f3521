"""The one form of every benchmark's result."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one subject over all rounds."""

    bench: str
    subject: str
    metric: str
    unit: str
    median: float
    min: float
    max: float
    rounds: int


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the benchmark ran."""

    cpu: str
    cores: int
    """Cores this process may use."""
    memory_gib: float
    kernel: str


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one subject in one round."""

    subject: str
    metric: str
    unit: str
    value: float


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """How a metric is to be read."""

    name: str
    meaning: str
    higher_is_better: bool = True


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a benchmark hands back."""

    bench: str
    rows: tuple[Row, ...]
    baseline: str
    """The subject that ratios are taken to; empty when there is nothing to compare."""
    metrics: tuple[Metric, ...]
    versions: dict[str, str]
    leaves_out: tuple[str, ...]
    """What the numbers do not tell."""
    notes: tuple[str, ...] = ()
    """What was seen in this run that qualifies its numbers."""


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON file: all rows flat, the machine and the versions beside them."""

    rows: tuple[Row, ...]
    machine: Machine
    versions: dict[str, str]
    started: str
    """UTC, ISO 8601."""
    notes: tuple[str, ...]
    leaves_out: tuple[str, ...]


def summarise_samples(bench: str, samples: Iterable[Sample]) -> tuple[Row, ...]:
    """Reduce samples to one row per subject and metric, in the order in which they first appear."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for sample in samples:
        groups.setdefault((sample.subject, sample.metric, sample.unit), []).append(sample.value)
    return tuple(
        Row(
            bench=bench,
            subject=subject,
            metric=metric,
            unit=unit,
            median=statistics.median(values),
            min=min(values),
            max=max(values),
            rounds=len(values),
        )
        for (subject, metric, unit), values in groups.items()
    )


def ratio_to_baseline(row: Row, rows: Iterable[Row], baseline: str) -> float | None:
    """Return the row's median over the baseline's for the same metric; None unless both are above 0."""
    for other in rows:
        if (other.bench, other.subject, other.metric) == (row.bench, baseline, row.metric) and min(
            row.median, other.median
        ) > 0:
            return row.median / other.median
    return None
