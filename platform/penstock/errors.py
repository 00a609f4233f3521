"""Errors that users of the command line cause and can mend."""

from __future__ import annotations

import click


class UserError(click.ClickException):
    """A mistake in what the user gave: printed as `Error: ...` without a traceback, exit code 2.

    The message names the field or file, the value and the remedy.
    """

    exit_code = 2
