"""`penstock load`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from penstock.errors import UserError


@click.command("load", short_help="Put chat load on an OpenAI-compatible server.")
@click.option("--url", required=True, help="Base address, such as http://127.0.0.1:8080.")
@click.option("--model", required=True, help="Model name, as /v1/models lists it.")
@click.option("--api-key", envvar="PENSTOCK_API_KEY", default="", help="Bearer key. [env: PENSTOCK_API_KEY]")
@click.option(
    "--shape", type=click.Choice(["constant", "ramp", "burst", "trace"]), default="constant", show_default=True,
    help="How the load changes with time.",
)  # fmt: skip
@click.option("--duration", "duration_s", type=float, default=60.0, show_default=True, help="Seconds of load.")
@click.option("--users", type=click.IntRange(min=1), default=4, show_default=True, help="Users at the full level.")
@click.option("--rate", "rate_rps", type=float, help="Requests/s at the full level, open loop, instead of users.")
@click.option("--ramp", "ramp_s", type=float, default=30.0, show_default=True, help="Seconds of a ramp's rise.")
@click.option("--period", "period_s", type=float, default=30.0, show_default=True, help="Seconds between bursts' ends.")
@click.option("--burst", "burst_s", type=float, default=5.0, show_default=True, help="Seconds of a burst.")
@click.option("--trace", "trace_file", type=click.Path(), help="Trace in Azure's format. [default: 2023]")
@click.option("--time-scale", type=float, default=1.0, show_default=True, help="Trace seconds that pass in one second.")
@click.option("--length-scale", type=float, default=1.0, show_default=True, help="Factor on a trace's lengths.")
@click.option("--prompt-tokens", default="lognormal:200:0.8:2000", show_default=True, help="Length of prompts.")
@click.option("--output-tokens", default="16-256", show_default=True, help="Length of answers, as max_tokens.")
@click.option(
    "--system-tokens", type=int, default=0, show_default=True, help="Length of a system prompt that all requests share."
)
@click.option(
    "--bytes-per-token", type=float, default=4.0, show_default=True, help="To size prompts; 1 for byte-level models."
)
@click.option("--stream/--no-stream", default=True, show_default=True, help="Ask for streams.")
@click.option("--ignore-eos", is_flag=True, help="Ask vLLM for the full output length.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of prompts, lengths and arrivals.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here.")
@click.option(
    "--records", type=click.Path(path_type=Path, dir_okay=False), help="Write a line of JSON per request here."
)
def command(*, shape: str, json_file: Path | None, records: Path | None, **options: Any) -> None:
    """Send chat requests and report time to first token, time per token, tokens/s and failures.

    Lengths are N, LOW-HIGH (uniform) or lognormal:MEDIAN:SIGMA:MAX, in tokens. Exits with 1 if any request failed.
    """
    import signal  # imports wait until the command runs

    import msgspec

    from penstock.console import open_console
    from penstock_loadtest.errors import LoadRunError, LoadSettingsError
    from penstock_loadtest.preflight import check_server
    from penstock_loadtest.run import run_headless
    from penstock_loadtest.settings import LoadSettings, Shape
    from penstock_loadtest.summary import print_report

    _check_writable("--json", json_file)
    _check_writable("--records", records)
    # The load is a process of its own: unwinding ends it, dying at once would leave it to go on.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        settings = LoadSettings(shape=Shape(shape), **options)
        settings.check()
        check_server(settings)
        report = run_headless(settings, records)
    except LoadSettingsError as error:
        raise UserError(str(error)) from error
    except LoadRunError as error:
        raise click.ClickException(str(error)) from error
    print_report(open_console(), report)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if report.requests.failed:
        raise SystemExit(1)


def _check_writable(option: str, file: Path | None) -> None:
    """Refuse a file that cannot be written before the load runs, not after."""
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("ab").close()
    except OSError as error:
        raise UserError(f"{option} {file}: cannot be written ({error.strerror}); name another file") from error
