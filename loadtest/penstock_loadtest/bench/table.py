"""Benchmark results for people: medians with their spread, ratios to the baseline, and what the numbers leave out."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from penstock_loadtest.bench.records import Machine, Outcome, ratio_to_baseline


def print_outcome(console: Console, outcome: Outcome, machine: Machine) -> None:
    """Print one benchmark's table, then what qualifies its numbers."""
    rounds = max((row.rounds for row in outcome.rows), default=0)
    table = Table(title=f"{outcome.bench}, {rounds} rounds", title_justify="left")
    table.add_column("metric", no_wrap=True)
    table.add_column("subject")
    for heading in ("median", "min", "max", f"to {outcome.baseline}" if outcome.baseline else "ratio"):
        table.add_column(heading, justify="right")
    for metric in outcome.metrics:
        rows = [row for row in outcome.rows if row.metric == metric.name]
        better = "↑" if metric.higher_is_better else "↓"
        for place, row in enumerate(rows):
            ratio = ratio_to_baseline(row, outcome.rows, outcome.baseline)
            table.add_row(
                (metric.name, f"[dim]{row.unit} {better}[/dim]", "")[min(place, 2)],
                row.subject,
                format_number(row.median),
                format_number(row.min),
                format_number(row.max),
                "" if ratio is None else f"{ratio:.2f}x",
                end_section=place == len(rows) - 1,
            )
    console.print(table)
    lines = [f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB, Linux {machine.kernel}"]
    lines += [", ".join(f"{name} {version}" for name, version in outcome.versions.items())]
    lines += [f"{metric.name}: {metric.meaning}" for metric in outcome.metrics]
    lines += [f"Note: {note}" for note in outcome.notes]
    lines += ["Left out:", *(f"  - {line}" for line in outcome.leaves_out)]
    for line in lines:
        console.print(line, highlight=False, markup=False)


def format_number(value: float) -> str:
    """Return a number with as many digits as a reader can use."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
