"""Processes as Linux shows them under `/proc`: identities that survive the reuse of a pid, births, parents, maps."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ProcessIdentity(msgspec.Struct, frozen=True):
    """One process, told apart from a later one that happens to get the same pid."""

    pid: int
    start_ticks: int
    """Clock ticks from boot to the start of the process (`/proc/PID/stat`, field 22)."""
    boot_id: str
    """Ticks of another boot mean nothing."""


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of `/proc/PID/stat` from the third on, or None when there is no such process."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The second field is the command's name in parentheses, which may hold spaces and parentheses itself.
    return text[text.rindex(")") + 2 :].split()


def boot_id() -> str:
    """Return the identity of the running kernel's boot."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> ProcessIdentity | None:
    """Return who holds a pid now, or None when nobody does or only a zombie is left."""
    fields = _stat_fields(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return ProcessIdentity(pid, int(fields[19]), boot_id())


def is_alive(identity: ProcessIdentity) -> bool:
    """Say whether the very process still runs: the pid alone may have been given to another."""
    return identify(identity.pid) == identity


def born_s(pid: int) -> float | None:
    """Return when a process began, Unix seconds to a clock tick (10 ms), or None when there is none."""
    fields = _stat_fields(pid)
    if fields is None:
        return None
    # `btime` in /proc/stat has whole seconds only; the two clocks' difference has the tick's 10 ms.
    boot_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot_s + int(fields[19]) / _TICKS_PER_S


def pids() -> Iterator[int]:
    """Yield the pids of all processes that are visible now."""
    yield from [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def session_members(leader: ProcessIdentity) -> list[int]:
    """Return the live members of the session that a process leads or led; empty when the pid is another's by now."""
    holder = identify(leader.pid)
    if leader.boot_id != boot_id() or (holder is not None and holder != leader):
        return []
    members = []
    for pid in pids():
        fields = _stat_fields(pid)
        if fields is None or fields[0] in "ZX":
            continue
        # No process of the session can be older than its leader.
        if int(fields[3]) == leader.pid and int(fields[19]) >= leader.start_ticks:
            members.append(pid)
    return members


def parents() -> dict[int, int]:
    """Return the parent of every process: `{pid: parent pid}`."""
    table = {}
    for pid in pids():
        fields = _stat_fields(pid)
        if fields is not None and fields[0] not in "ZX":
            table[pid] = int(fields[1])
    return table


def descendants(root: int, table: dict[int, int]) -> list[int]:
    """Return the pids below `root` in a table of `parents()`, children before grandchildren."""
    children: dict[int, list[int]] = {}
    for pid, parent in table.items():
        children.setdefault(parent, []).append(pid)
    found = list(children.get(root, ()))
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def title(pid: int) -> str:
    """Return a process's command line or the title it gave itself; empty when it is gone."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return os.fsdecode(raw.replace(b"\0", b" ")).strip()
