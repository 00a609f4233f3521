"""`penstock bench`."""

from __future__ import annotations

from pathlib import Path

import click

from penstock.errors import UserError


@click.command("bench", short_help="Measure Penstock beside its peers.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows here as JSON."
)
@click.option(
    "--rounds", type=click.IntRange(min=1), help="Rounds, interleaved; each benchmark's own number by default."
)
@click.option(
    "--seconds", type=click.FloatRange(min=0.05), default=3.0, show_default=True, help="Length of each timed phase."
)
@click.option("--subjects", default="", metavar="A,B", help="Only these subjects, by name.")
@click.option("--list", "list_only", is_flag=True, help="List the benchmarks and stop.")
def command(
    names: tuple[str, ...],
    *,
    json_file: Path | None,
    rounds: int | None,
    seconds: float,
    subjects: str,
    list_only: bool,
) -> None:
    """Run benchmarks (all, or those named), print a table, and write rows for machines.

    A row is {bench, subject, metric, unit, median, min, max, rounds}. A benchmark whose answers are wrong fails.
    """
    from penstock.console import open_console  # imports wait until the command runs
    from penstock_loadtest.bench.registry import BENCHMARKS, BenchSettings
    from penstock_loadtest.bench.session import run_session, write_report
    from penstock_loadtest.errors import BenchError, LoadSettingsError

    console = open_console()
    if list_only:
        for name, entry in BENCHMARKS.items():
            console.print(f"{name}: {entry.summary}", highlight=False)
        return
    chosen = tuple(part.strip() for part in subjects.split(",") if part.strip())
    settings = BenchSettings(seconds=seconds, subjects=chosen)
    try:
        report = run_session(names, settings, console, rounds=rounds)
    except LoadSettingsError as error:
        raise UserError(str(error)) from error
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    if json_file is not None:
        write_report(report, json_file)
        console.print(f"Wrote {len(report.rows)} rows to {json_file}", highlight=False)
