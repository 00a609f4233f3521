"""`penstock status`: what runs on this machine, or in a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.where import ClusterFlags, chosen_cluster, cluster_options

if TYPE_CHECKING:
    from penstock.cli.where import ClusterReader


@click.command("status")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="State directory of the platform; default $PENSTOCK_STATE or the user's own.",
)
@cluster_options
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def command(ctx: click.Context, state: Path | None, cluster: ClusterFlags, output: str) -> None:
    """Show models, replicas and conditions: of the platform that `penstock up` runs here, or of a cluster.

    Exit code 1 when no platform runs in the state directory.
    """
    reader = chosen_cluster(cluster, state)
    if reader is None:
        _show_local(ctx, state, output)
    else:
        _show_cluster(reader, output, all_namespaces=cluster.all_namespaces)


def _show_local(ctx: click.Context, state: Path | None, output: str) -> None:
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


def _show_cluster(reader: ClusterReader, output: str, *, all_namespaces: bool) -> None:
    import msgspec

    from penstock.console import open_console
    from penstock.control.view import render_models

    found = reader.models()
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    for remark in found.remarks:
        click.echo(remark, err=True)
    open_console().print(render_models(found.models, found.at_s, live=found.live, namespaces=all_namespaces))
