"""`kubectl penstock`: the commands that read, for a cluster only, found by kubectl as `kubectl-penstock` on PATH."""

from __future__ import annotations

import copy
import functools
from typing import Any

import click

from penstock import __version__
from penstock.cli.cost import command as cost
from penstock.cli.plan import command as plan
from penstock.cli.status import command as status
from penstock.cli.where import CLUSTER_ONLY
from penstock.cli.why import command as why


def cluster_only(command: click.Command) -> click.Command:
    """Return a command without the options of a local platform, and its subcommands likewise."""
    other = copy.copy(command)
    other.params = [parameter for parameter in command.params if parameter.name != "state"]
    if command.callback is not None and len(other.params) < len(command.params):
        other.callback = _without_state(command.callback)
    if isinstance(command, click.Group) and isinstance(other, click.Group):
        other.commands = {name: cluster_only(inner) for name, inner in command.commands.items()}
    return other


def _without_state(callback: Any) -> Any:
    @functools.wraps(callback)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return callback(*args, state=None, **kwargs)

    return wrapped


@click.group("penstock", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kubectl penstock")
@click.pass_context
def main(context: click.Context) -> None:
    """Read Penstock in a cluster: what runs, why so many replicas, what it costs, what fits."""
    context.meta[CLUSTER_ONLY] = True


for _command in (cost, plan, status, why):
    main.add_command(cluster_only(_command))
