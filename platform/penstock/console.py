"""Standard output for people: as wide as their terminal, and wide enough for whole tables where there is none."""

from __future__ import annotations

import os

from rich.console import Console

PIPE_COLUMNS = 160
"""Width of what goes into a pipe, a file or a log: the widest table fits."""


def open_console(*, highlight: bool = True) -> Console:
    """Return a console on standard output. `COLUMNS` in the environment overrides the width."""
    console = Console(highlight=highlight)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(highlight=highlight, width=PIPE_COLUMNS)
