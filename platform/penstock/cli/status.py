"""`penstock status`: what runs on this machine."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("status")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="State directory of the platform; default $PENSTOCK_STATE or the user's own.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def command(ctx: click.Context, state: Path | None, output: str) -> None:
    """Show models, replicas and conditions of the platform that `penstock up` runs. Exit code 1 when none runs."""
    from penstock.console import open_console
    from penstock.control.view import render_details
    from penstock.local.journal import read_status
    from penstock.local.state import StateDirectory

    directory = StateDirectory.resolve(state)
    status = read_status(directory.status)
    if not directory.is_locked():
        if directory.read_platform() is None:
            click.echo(f"no platform runs in {directory.root}; start one with `penstock up`", err=True)
        else:
            click.echo(f"the platform in {directory.root} was killed; `penstock down` removes what is left", err=True)
        ctx.exit(1)
    if status is None:
        click.echo(f"the platform in {directory.root} is starting", err=True)
        ctx.exit(1)
    if output == "json":
        click.echo(directory.status.read_text())
        return
    open_console().print(render_details(status))
