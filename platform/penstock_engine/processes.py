"""The processes of a replica: the actor, the engine's core and workers under it, and what they share in memory.

An engine keeps segments (`psm_*`) and semaphores (`sem.mp-*`) in /dev/shm. Python's resource tracker, one helper
process that the whole family writes to, removes them when the family is gone; but Ray ends an actor by killing its
children, the tracker among them, and then nothing in a name says whose it was. So a replica lets its tracker finish
before it goes, whichever way it goes. Only when the actor itself is killed from outside do names stay behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NoReturn

PROC = Path("/proc")

EXIT_CODE = 70
"""Of a replica that ended itself: EX_SOFTWARE of sysexits.h."""

_TRACKER_MAIN = b"multiprocessing.resource_tracker"


def descendants(pid: int, proc: Path = PROC) -> list[int]:
    """Return the ids of a process's children, their children and so on, parents first; empty off Linux."""
    found: list[int] = []
    for task in (proc / str(pid) / "task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += [int(child), *descendants(int(child), proc)]
    return found


def is_resource_tracker(pid: int, proc: Path = PROC) -> bool:
    """Tell whether a process is a resource tracker, which ends by itself and must not be killed before it did."""
    with contextlib.suppress(OSError):
        return _TRACKER_MAIN in (proc / str(pid) / "cmdline").read_bytes()
    return False


def kill_descendants() -> None:
    """Kill everything under this process, stopped processes included, except resource trackers."""
    for pid in descendants(os.getpid()):
        if not is_resource_tracker(pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def release_shared_memory(within_s: float = 2.0) -> None:
    """Let this process's resource tracker remove what the family left in /dev/shm, and wait until it has.

    The rest of the family must be gone: the tracker works when the last of them has closed its pipe.
    """
    stopping = threading.Thread(target=resource_tracker._resource_tracker._stop, daemon=True)  # type: ignore[attr-defined]  # noqa: SLF001 - no public call stops it
    stopping.start()
    stopping.join(within_s)


def end_process(code: int = EXIT_CODE) -> NoReturn:
    """End this process and everything under it at once, running no clean-up but that of shared memory."""
    kill_descendants()
    release_shared_memory()
    os._exit(code)
