"""`penstock down`: end what `penstock up` started."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("down")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="State directory of the platform; default $PENSTOCK_STATE or the user's own.",
)
def command(state: Path | None) -> None:
    """Take the platform down: streams finish, replicas drain, and no process, shared memory or temporary file stays.

    Works as well after the operator was killed. The ledger, the decisions and the logs stay, for `penstock cost` and
    `penstock why`.
    """
    import asyncio

    from penstock.local.down import take_down
    from penstock.local.state import StateDirectory

    click.echo(asyncio.run(take_down(StateDirectory.resolve(state))))
