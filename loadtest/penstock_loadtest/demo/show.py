"""Prints the demo's report."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from penstock_loadtest.demo.report import DemoReport


def print_report(report: DemoReport, console: Console) -> None:
    """Print the timeline, the bill and the summary."""
    timeline = Table(title="Timeline", box=None, pad_edge=False, title_justify="left")
    timeline.add_column("t", justify="right")
    timeline.add_column("kind")
    timeline.add_column("what")
    for mark in report.timeline:
        timeline.add_row(f"{mark.t_s:.1f} s", mark.kind, mark.text)
    console.print(timeline)
    console.print(_bill(report))
    console.print(report.summary)


def _bill(report: DemoReport) -> Table:
    usd = report.usd
    bill = Table(title="Bill (USD)", box=None, pad_edge=False, title_justify="left")
    bill.add_column("what")
    bill.add_column("amount", justify="right")
    bill.add_row("paid: process uptime x price", f"{usd.paid:.6f}")
    bill.add_row("tenants", f"{usd.tenants:.6f}")
    for name, by_cause in (("idle", usd.idle_by_cause), ("overhead", usd.overhead_by_cause)):
        for cause, amount in by_cause.items():
            bill.add_row(f"{name}: {cause}", f"{amount:.6f}")
    bill.add_row("unattributed", f"{usd.unattributed:.6f}")
    for name, amount_per_million in usd.per_million_tokens.items():
        bill.add_row(f"per million tokens: {name}", "-" if amount_per_million is None else f"{amount_per_million:.4f}")
    return bill
