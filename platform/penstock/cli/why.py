"""`penstock why`: the last scaling decisions of a model, in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.where import ClusterFlags, ClusterReader, chosen_cluster, cluster_options

if TYPE_CHECKING:
    from penstock.scaling.decision import Decision


@click.command("why")
@click.argument("model")
@click.option("--last", "count", type=click.IntRange(min=1), default=1, show_default=True, help="Decisions to show.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="State directory of the platform; default $PENSTOCK_STATE or the user's own.",
)
@cluster_options
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(model: str, count: int, state: Path | None, cluster: ClusterFlags, output: str) -> None:
    """Tell why MODEL has the replicas it has: its last scaling decisions, oldest first."""
    import msgspec

    from penstock.scaling.explain import explain

    reader = chosen_cluster(cluster, state)
    decisions = _local(state, model, count) if reader is None else _in_cluster(reader, model, count)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(decisions), indent=2).decode())
    elif decisions:
        click.echo("\n\n".join(explain(decision) for decision in decisions))


def _local(state: Path | None, model: str, count: int) -> Sequence[Decision]:
    from penstock.errors import UserError
    from penstock.local.state import StateDirectory
    from penstock.scaling.log import known_models, last_decisions

    path = StateDirectory.resolve(state).decisions
    decisions = last_decisions(path, model, count)
    if not decisions:
        known = known_models(path)
        if known:
            raise UserError(f"no decision about model {model!r}; there are some about {', '.join(known)}")
        raise UserError(f"no decisions in {path}: start a platform with `penstock up`, or name its --state")
    return decisions


def _in_cluster(reader: ClusterReader, model: str, count: int) -> Sequence[Decision]:
    from penstock.control.view import attention_of

    found = reader.decisions(model, count)
    for remark in found.remarks:
        click.echo(remark, err=True)
    if not found.decisions:
        status = found.model
        click.echo(
            f"{status.name}: {status.ready} of {status.target} replicas ready; {status.why or 'no decision yet'}"
        )
        for line in attention_of(status):
            click.echo(f"  {line}")
    return found.decisions
