"""A load report for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from penstock_loadtest.report import LoadReport


def print_report(console: Console, report: LoadReport) -> None:
    """Print quantiles, then counts, then the causes of failures."""
    table = Table(title="Complete requests, in milliseconds", title_justify="left")
    table.add_column("")
    for heading in ("p50", "p90", "p95", "p99", "max"):
        table.add_column(heading, justify="right")
    for name, found in (
        ("time to first token", report.ttft_ms),
        ("time per output token", report.tpot_ms),
        ("whole request", report.latency_ms),
    ):
        if found.count:
            values = (found.p50, found.p90, found.p95, found.p99, found.max)
            table.add_row(name, *(f"{value:,.1f}" for value in values))
    if table.row_count:
        console.print(table)
    counts = report.requests
    console.print(
        f"{counts.total} requests in {report.duration_s:.1f} s: {counts.complete} complete, {counts.failed} failed "
        f"({counts.failed_clean} with a clean error), {counts.abandoned} abandoned at the end",
        highlight=False,
    )
    console.print(
        f"{report.completion_tokens:,} completion tokens, {report.tokens_per_s:,.1f} tokens/s; "
        f"{report.prompt_tokens:,} prompt tokens",
        highlight=False,
    )
    for cause, count in counts.by_cause.items():
        console.print(f"  {count} x {cause}", highlight=False, markup=False)
