"""`penstock why`: the last scaling decisions of a model, in words."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("why")
@click.argument("model")
@click.option(
    "-n", "--last", "count", type=click.IntRange(min=1), default=1, show_default=True, help="Decisions to show."
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="State directory of the platform; default $PENSTOCK_STATE or the user's own.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(model: str, count: int, state: Path | None, output: str) -> None:
    """Tell why MODEL has the replicas it has: its last scaling decisions, oldest first."""
    import msgspec

    from penstock.errors import UserError
    from penstock.local.state import StateDirectory
    from penstock.scaling.explain import explain
    from penstock.scaling.log import known_models, last_decisions

    path = StateDirectory.resolve(state).decisions
    decisions = last_decisions(path, model, count)
    if not decisions:
        known = known_models(path)
        if known:
            raise UserError(f"no decision about model {model!r}; there are some about {', '.join(known)}")
        raise UserError(f"no decisions in {path}: start a platform with `penstock up`, or name its --state")
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(decisions), indent=2).decode())
    else:
        click.echo("\n\n".join(explain(decision) for decision in decisions))
