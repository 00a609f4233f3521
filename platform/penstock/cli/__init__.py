"""The `penstock` command: one file a command, each importing what it needs only when it runs."""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points

import click

from penstock import __version__

COMMAND_GROUP = "penstock.commands"
"""Entry point group through which other packages bring commands: `name = "package.module:command"`."""

CORE_COMMANDS = ("cost", "crds", "down", "plan", "status", "up", "why")


class CommandGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the core's commands and of those that installed packages bring."""
        return sorted({*CORE_COMMANDS, *_contributed().keys()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None when there is none of that name."""
        if cmd_name in CORE_COMMANDS:
            module = importlib.import_module(f"penstock.cli.{cmd_name.replace('-', '_')}")
            command = module.command
        else:
            entry = _contributed().get(cmd_name)
            command = None if entry is None else entry.load()
        return command if isinstance(command, click.Command) else None


def _contributed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=COMMAND_GROUP)}


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="penstock")
def main() -> None:
    """Serve language models: deploy, scale and price vLLM on Ray Serve."""
