"""`penstock up` in a terminal: a live table until Ctrl-C, or progress until a detached platform serves."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time

from rich.console import Console
from rich.live import Live

from penstock.api.manifest import Manifest
from penstock.console import open_console
from penstock.control.status import PlatformStatus
from penstock.control.view import is_ready, progress, render, trouble
from penstock.errors import UserError
from penstock.local.journal import read_status
from penstock.local.lifecycle import Options, Running
from penstock.local.processes import tail
from penstock.local.serving import operator_log, serve, spawn
from penstock.local.state import StateDirectory

_REFRESH_S = 0.5


def serve_here(state: StateDirectory, options: Options, manifest: Manifest) -> None:
    """Run the platform in this terminal until Ctrl-C.

    Raises:
        UserError: it did not start, or cannot go on.
    """
    logging.basicConfig(
        filename=operator_log(state), level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    console = open_console()

    async def show(running: Running) -> None:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                if (status := running.operator.status) is not None:
                    live.update(render(status), refresh=True)
                await asyncio.sleep(_REFRESH_S)

    serve(state, options, manifest, console.print, show)
    console.print(f"down; ledger, decisions and logs stay in {state.root}")


def serve_detached(state: StateDirectory, options: Options, timeout_s: float) -> int:
    """Start the platform and return once every model serves or is in trouble; it runs on.

    Returns:
        The exit code: 0 when every model serves, 1 when some do not.

    Raises:
        UserError: the platform did not start, or was not done in time (it runs on then).
    """
    console = open_console()
    status = _wait(state, spawn(state, options), console, time.monotonic() + timeout_s)
    console.print(render(status))
    bad = [model.name for model in status.models if trouble(model) is not None]
    state_of_it = f"running without {', '.join(bad)}" if bad else "running"
    console.print(f"{state_of_it}; `penstock status` shows it, `penstock down` ends it; state in {state.root}")
    return int(bool(bad))


def _wait(
    state: StateDirectory, operator: subprocess.Popen[bytes], console: Console, deadline_s: float
) -> PlatformStatus:
    with console.status("starting Ray and the gateway") as spinner:
        while time.monotonic() < deadline_s:
            if (code := operator.poll()) is not None:
                raise UserError(_last_words(state, code))
            status = read_status(state.status)
            if status is not None and status.pid == operator.pid and status.phase == "Running":
                spinner.update(progress(status))
                if all(is_ready(model) or trouble(model) for model in status.models):
                    return status
            time.sleep(0.25)
    raise UserError(
        f"not every model serves after --timeout; the platform runs on in {state.root}: `penstock status` shows it, "
        "`penstock down` ends it"
    )


def _last_words(state: StateDirectory, code: int) -> str:
    _, marker, words = tail(operator_log(state)).rpartition("Error: ")
    return words.strip() if marker else f"the operator ended with code {code}; see {operator_log(state)}"
