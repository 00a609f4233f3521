"""Starts a program that ends with its parent: `python -m penstock.local.leash PARENT_PID PROGRAM ARGUMENT...`.

The kernel sends the program SIGTERM when the parent dies, also by SIGKILL. Set here, in a process of its own, because
code between fork and exec of a threaded parent may deadlock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program."""
    parent, *program = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != int(parent):
        sys.exit("the parent ended before its child began")
    try:
        os.execvp(program[0], program)  # noqa: S606 - no shell is meant: the program takes this process's place
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
