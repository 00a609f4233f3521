"""The operator's children: each in a session of its own, logged to a file, ended by identity and never by name.

A session is what all of a child's descendants share, however they regroup: Ray's workers lead process groups of their
own and rename themselves, but stay in the session of `ray start`. The kernel gives a session's number to no new process
while a member of it lives, so the members of a recorded session are ours, or there are none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.errors import UserError
from penstock.local import procfs
from penstock.local.procfs import ProcessIdentity
from penstock.local.state import Child

_POLL_S = 0.05
_TAIL_BYTES = 4000


@dataclass(slots=True)
class ManagedProcess:
    """A child that runs, or has ended."""

    role: str
    log: Path
    popen: subprocess.Popen[bytes]
    identity: ProcessIdentity

    @property
    def child(self) -> Child:
        """The record of it for `platform.json`."""
        return Child(self.role, self.identity)

    def exit_code(self) -> int | None:
        """Return how it ended, or None while it runs."""
        return self.popen.poll()

    def log_tail(self) -> str:
        """Return the end of its log."""
        return tail(self.log)


def start_process(role: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path) -> ManagedProcess:
    """Start a child in a new session that gets SIGTERM when this process dies.

    Call it from the main thread: the kernel watches the thread that forks.

    Raises:
        UserError: the program cannot be started.
    """
    command = [sys.executable, "-m", "penstock.local.leash", str(os.getpid()), *argv]
    with log.open("ab") as output:
        try:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(f"cannot start {role}: {error}") from error
    identity = procfs.identify(popen.pid)
    if identity is None:
        raise UserError(f"{role} ended at once with code {popen.wait()}; its log: {log}\n{tail(log)}")
    return ManagedProcess(role=role, log=log, popen=popen, identity=identity)


def tail(log: Path, limit_bytes: int = _TAIL_BYTES) -> str:
    """Return the last bytes of a log as text, from a line's beginning."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit_bytes))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return text if size <= limit_bytes else text.partition("\n")[2]


async def end_session(leader: ProcessIdentity, *, grace_s: float, popen: subprocess.Popen[bytes] | None = None) -> bool:
    """End a child and all it left: SIGTERM to the leader, then SIGKILL to whoever is in its session after `grace_s`.

    Returns:
        True when everything had ended by itself, False when something had to be killed.
    """
    if procfs.is_alive(leader):
        _send(leader.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while members := _members(leader, popen):
        if time.monotonic() >= deadline:
            break
        if leader.pid not in members:
            # The leader has gone and its children were not told: Ray's own helpers heed SIGTERM.
            for pid in members:
                _send(pid, signal.SIGTERM)
            deadline = min(deadline, time.monotonic() + 2.0)
        await asyncio.sleep(_POLL_S)
    graceful = not members
    while members := _members(leader, popen):
        for pid in members:
            _send(pid, signal.SIGKILL)
        await asyncio.sleep(_POLL_S)
    return graceful


def _members(leader: ProcessIdentity, popen: subprocess.Popen[bytes] | None) -> list[int]:
    if popen is not None:
        popen.poll()  # reaps it: a zombie would look like a member
    return procfs.session_members(leader)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
