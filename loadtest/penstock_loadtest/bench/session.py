"""A run of several benchmarks: one report for machines, one table each for people."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from penstock_loadtest.bench.machine import describe_machine, package_version
from penstock_loadtest.bench.records import BenchReport, Outcome
from penstock_loadtest.bench.registry import BENCHMARKS, BenchSettings, choose_benchmarks, load_runner
from penstock_loadtest.bench.table import print_outcome


def run_session(
    names: Sequence[str], settings: BenchSettings, console: Console, *, rounds: int | None = None
) -> BenchReport:
    """Run benchmarks one after another and print each one's table.

    Args:
        names: Which; all when empty.
        settings: What each is asked, but for the rounds.
        console: Where tables go.
        rounds: How many for each; each benchmark's own number when None.

    Raises:
        LoadSettingsError: a benchmark or a subject has an unknown name.
        BenchError: a benchmark failed.
    """
    started = datetime.now(UTC)
    machine = describe_machine()
    outcomes: list[Outcome] = []
    for name in choose_benchmarks(names):
        # Plain lines: a spinner's thread would wake in the middle of what is timed.
        asked = msgspec.structs.replace(settings, rounds=rounds or BENCHMARKS[name].rounds)
        outcome = load_runner(name)(asked, lambda line: console.print(line, style="dim", highlight=False))
        print_outcome(console, outcome, machine)
        outcomes.append(outcome)
    versions = {"python": platform.python_version(), "penstock": package_version("penstock")}
    return BenchReport(
        rows=tuple(row for outcome in outcomes for row in outcome.rows),
        machine=machine,
        versions=versions | {name: v for outcome in outcomes for name, v in outcome.versions.items()},
        started=started.isoformat(timespec="seconds"),
        notes=tuple(note for outcome in outcomes for note in outcome.notes),
        leaves_out=tuple(line for outcome in outcomes for line in outcome.leaves_out),
    )


def write_report(report: BenchReport, path: Path) -> None:
    """Write the report as indented JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    partial.replace(path)
