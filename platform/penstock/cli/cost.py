"""`penstock cost`: what a platform's tokens cost, one request's receipt, and the textbook formula."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.where import ClusterCost, ClusterFlags, chosen_cluster, cluster_options
from penstock.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from penstock.control.status import ModelStatus
    from penstock.cost.ledger import Ledger
    from penstock.cost.receipts import RequestReceipt
    from penstock.cost.report import Account, CostReport

_state = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="State directory of the platform; default $PENSTOCK_STATE or the user's own.",
)
_output = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)


@click.group("cost", invoke_without_command=True)
@_state
@click.option("--since", help="From when on: a span back from now (90s, 15m, 2h, 7d) or a date and time.")
@click.option("--by", type=click.Choice(["tenant", "model"]), default="tenant", show_default=True)
@cluster_options
@_output
@click.pass_context
def command(
    context: click.Context, *, state: Path | None, since: str | None, by: str, cluster: ClusterFlags, output: str
) -> None:
    """Report what a platform's tokens cost, running or ended: who used what, what was idle, what was paid."""
    if context.invoked_subcommand is not None:
        return
    now_s = time.time()
    since_s = None if since is None else _moment(since, now_s)
    reader = chosen_cluster(cluster, state)
    found = ClusterCost(_local_report(state, since_s, now_s)) if reader is None else reader.cost(since_s)
    for remark in found.remarks:
        click.echo(remark, err=True)
    if output == "json":
        _echo_json(found.models if found.report is None else found.report)
    elif found.report is None:
        _print_models(found.models)
    else:
        _print_report(found.report, by)


def _local_report(state: Path | None, since_s: float | None, now_s: float) -> CostReport:
    from penstock.cost.report import build_report

    with _snapshot(state) as ledger:
        return build_report(ledger.books(since_s), now_s=now_s, since_s=since_s)


@command.command("receipt")
@click.argument("request", metavar="ID")
@_state
@cluster_options
@_output
def receipt(request: str, state: Path | None, cluster: ClusterFlags, output: str) -> None:
    """Print what one request cost. ID is the answer's `x-request-id`."""
    reader = chosen_cluster(cluster, state)
    found = _local_receipt(state, request) if reader is None else reader.receipt(request)
    if found is None:
        raise UserError(
            f"ID {request!r}: no such request in the ledger or the spool; give the `x-request-id` of an answer "
            f"that has ended, and the --state or the cluster of the platform that gave it"
        )
    if output == "json":
        _echo_json(found)
    else:
        _print_receipt(found)


@command.command("formula")
@click.option("--gpu-hourly", type=float, required=True, help="USD an hour for all accelerators of the replica.")
@click.option("--tokens-per-second", type=float, required=True, help="Tokens a second that they make together.")
@_output
def formula(gpu_hourly: float, tokens_per_second: float, output: str) -> None:
    """Print the textbook price per million tokens of accelerators that are never idle."""
    from penstock.cost.identity import usd_per_million_tokens

    for option, value in (("--gpu-hourly", gpu_hourly), ("--tokens-per-second", tokens_per_second)):
        if not 0 < value < float("inf"):
            raise UserError(f"{option} {value:g}: give a number above zero")
    usd = usd_per_million_tokens(gpu_hourly, tokens_per_second)
    if output == "json":
        _echo_json(
            {"gpu_hourly_usd": gpu_hourly, "tokens_per_second": tokens_per_second, "usd_per_million_tokens": usd}
        )
    else:
        click.echo(f"{usd:.2f}")


def _local_receipt(state: Path | None, request: str) -> RequestReceipt | None:
    from penstock.cost.receipts import receipt_of

    with _snapshot(state) as ledger:
        return receipt_of(ledger, request, now_s=time.time())


@contextmanager
def _snapshot(state: Path | None) -> Iterator[Ledger]:
    from penstock.cost.ledger import snapshot_of
    from penstock.cost.schema import LedgerVersionError
    from penstock.local.state import StateDirectory

    directory = StateDirectory.resolve(state)
    if not directory.ledger.exists() and not directory.spool.is_dir():
        raise UserError(
            f"{directory.root}: no platform has run here; start one with `penstock up`, or name its folder with --state"
        )
    try:
        ledger = snapshot_of(directory.ledger, directory.spool)
    except (sqlite3.DatabaseError, LedgerVersionError) as error:
        raise UserError(f"{directory.ledger}: {error}") from error
    with ledger:
        yield ledger


def _moment(text: str, now_s: float) -> float:
    from penstock.cost.moments import parse_moment

    try:
        return parse_moment(text, now_s)
    except ValueError as error:
        raise UserError(f"--since {error}") from None


def _echo_json(value: Any) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


_NAME_COLUMNS = 12
"""What is left of a name in one line where the terminal is narrow."""


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.measure import Measurement

    from penstock.console import open_console

    console = open_console()
    unbounded = console.options.update(max_width=10_000)
    for gap in (2, 1, 0):
        table = _table(columns, rows, gap)
        needed = Measurement.get(console, unbounded, table).minimum
        if needed <= console.width:
            break
    console.width = max(console.width, needed)  # the terminal wraps a line that is too long; cut, it would be lost
    console.print(table)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], gap: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0), pad_edge=False, show_edge=False)
    for index, cells in enumerate(zip(columns, *rows, strict=True)):
        widest = max(map(len, cells))
        # Names may go on in the next line; half a number would be read as another number.
        least = widest if index else min(widest, _NAME_COLUMNS)
        table.add_column(cells[0], justify="right" if index else "left", overflow="fold", min_width=least)
    for row in rows:
        table.add_row(*row)
    return table


def _print_report(report: CostReport, by: str) -> None:
    def share(usd: float) -> str:
        return f"{usd / report.paid_usd:.1%}" if report.paid_usd else "-"

    rows = [("tenants", report.tenants_usd)]
    rows += [(f"idle: {cause}", usd) for cause, usd in report.idle_by_cause_usd.items()]
    rows += [(f"overhead: {cause}", usd) for cause, usd in report.overhead_by_cause_usd.items()]
    rows += [("pending", report.pending_usd)] if report.pending_usd else []
    rows += [("unattributed", report.unattributed_usd), ("paid", report.paid_usd)]
    _print_table(("", "USD", "of paid"), [(name, f"{usd:,.6f}", share(usd)) for name, usd in rows])
    accounts: dict[str, Account] = dict(report.by_tenant if by == "tenant" else report.by_model)
    columns = (by, "tokens", "USD", "$/1M prompt", "cached", "completion", "blended", "allocated")
    _print_table(columns, [_account_row(name, one) for name, one in [*accounts.items(), ("all", report.total)]])
    click.echo(
        "prompt: tokens not found in the prefix cache. blended: USD of tenants over all tokens.\n"
        "allocated: USD paid, idle and overhead included, over all tokens."
    )
    for reason, records in report.faults.items():
        if records:
            click.echo(f"{records} {reason} {'record' if records == 1 else 'records'}", err=True)


def _print_models(models: Sequence[ModelStatus]) -> None:
    """Print what statuses say of cost, for want of the ledger."""
    rows = [
        (
            f"{model.namespace}/{model.name}",
            "-" if model.usd_per_million_tokens is None else f"{model.usd_per_million_tokens:,.2f}",
            "-" if model.idle_share is None else f"{model.idle_share:.0%}",
        )
        for model in models
    ]
    _print_table(("model", "$/1M tokens", "idle"), rows)


def _account_row(name: str, account: Account) -> tuple[str, ...]:
    rates = account.per_million_tokens
    return (
        name,
        f"{sum(account.tokens.values()):,}",
        f"{account.usd:,.6f}",
        *(
            "-" if rate is None else f"{rate:,.4f}"
            for rate in (rates.prompt, rates.cached, rates.completion, rates.blended, rates.blended_allocated)
        ),
    )


def _print_receipt(found: RequestReceipt) -> None:
    request = found.request
    cached = min(request.cached_tokens, request.prompt_tokens)
    tokens = {"prompt": request.prompt_tokens - cached, "cached": cached, "completion": request.completion_tokens}
    click.echo(f"request    {request.id}")
    click.echo(f"tenant     {request.tenant}")
    click.echo(f"model      {request.model} on {request.replica}")
    click.echo(f"started    {datetime.fromtimestamp(request.start_s, UTC):%Y-%m-%d %H:%M:%S} UTC")
    click.echo(f"took       {request.end_s - request.start_s:.3f} s, {request.outcome.value.lower()}")
    click.echo(f"borne by   {found.borne_by}{'' if found.settled else ', not settled yet'}")
    rows = [(kind, f"{tokens[kind]:,}", f"{usd:,.9f}") for kind, usd in found.usd_by_kind.items()]
    _print_table(("", "tokens", "USD"), [*rows, ("total", f"{sum(tokens.values()):,}", f"{found.usd:,.9f}")])
