"""Runs a platform until it is told to stop: in this terminal, or as a process of its own (`python -m ...serving`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from penstock.api.load import load_files
from penstock.api.manifest import Manifest
from penstock.errors import UserError
from penstock.local.lifecycle import Options, Running, Say, platform
from penstock.local.state import StateDirectory

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(
    state: StateDirectory,
    options: Options,
    manifest: Manifest,
    say: Say,
    show: Callable[[Running], Awaitable[None]] | None = None,
) -> None:
    """Run a platform until SIGINT, SIGTERM or SIGHUP, then take it down.

    Args:
        state: Where its state goes.
        options: How to run it.
        manifest: What to serve at first; the files are followed from then on.
        say: Gets progress, a line at a time.
        show: Runs beside the platform, as a live table does.

    Raises:
        UserError: it did not start, or cannot go on.
    """
    asyncio.run(_serve(state, options, manifest, say, show))


async def _serve(
    state: StateDirectory,
    options: Options,
    manifest: Manifest,
    say: Say,
    show: Callable[[Running], Awaitable[None]] | None,
) -> None:
    body = asyncio.create_task(_body(state, options, manifest, say, show))
    loop = asyncio.get_running_loop()
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if not stopping:  # once: a second cancellation would cut the teardown short
            stopping = True
            body.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    with contextlib.suppress(asyncio.CancelledError):
        await body


async def _body(
    state: StateDirectory,
    options: Options,
    manifest: Manifest,
    say: Say,
    show: Callable[[Running], Awaitable[None]] | None,
) -> None:
    async with platform(state, options, manifest, say) as running:
        shown = asyncio.ensure_future(show(running)) if show is not None else None
        try:
            reason = await running.failed
        finally:
            if shown is not None:
                shown.cancel()
                await asyncio.gather(shown, return_exceptions=True)
    raise UserError(reason)


def spawn(state: StateDirectory, options: Options) -> subprocess.Popen[bytes]:
    """Start the platform as a process of its own that outlives this terminal; its words go to a log."""
    with operator_log(state).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "penstock.local.serving", str(state.root), msgspec.json.encode(options).decode()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def operator_log(state: StateDirectory) -> Path:
    """Return where a detached operator writes what it says."""
    return state.logs / "operator.log"


def main(arguments: list[str]) -> int:
    """Run a platform as `spawn` asks; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    state = StateDirectory(Path(arguments[0]))
    options = msgspec.json.decode(arguments[1], type=Options)
    logger = logging.getLogger("penstock")
    try:
        serve(state, options, load_files([Path(path) for path in options.paths]), logger.info)
    except UserError as error:
        sys.stderr.write(f"Error: {error.format_message()}\n")
        return UserError.exit_code
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
