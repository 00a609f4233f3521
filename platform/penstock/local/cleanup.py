"""What processes leave behind when they die: shared memory that nobody maps, and the platform's temporary folder.

Shared memory cannot be put into a folder of ours: it lies in `/dev/shm` beside everybody else's. So the operator writes
down which segments its processes have mapped or open, and those are removed at the end unless somebody still has them.
A segment that we never saw in a process of ours is not ours to remove, however it is named.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from penstock.local import procfs
from penstock.local.state import write_atomically

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's own place, where segments are found
PROC = Path("/proc")


class SegmentRegister:
    """The segments that processes of the platform have used, kept in a file that outlives the operator."""

    def __init__(self, file: Path, folder: Path = SHARED_MEMORY, proc: Path = PROC) -> None:
        self._file = file
        self._folder = folder
        self._proc = proc
        self._known: dict[str, int] = self._load()

    def note(self, pids: Iterable[int]) -> None:
        """Write down the segments that these processes use now."""
        used: dict[str, int] = {}
        for pid in pids:
            used.update(segments_used(pid, self._folder, self._proc))
        if not used.items() <= self._known.items():
            self._known.update(used)
            write_atomically(self._file, msgspec.json.encode(self._known))

    def remove_orphans(self) -> list[str]:
        """Remove those of them that nobody uses any more, forget all, and return the names removed."""
        in_use = {inode for pid in procfs.pids() for inode in segments_used(pid, self._folder, self._proc).values()}
        there = _inodes(self._folder)
        names = orphans(self._known, there, in_use)
        for name in names:
            (self._folder / name).unlink(missing_ok=True)
        self._known.clear()
        self._file.unlink(missing_ok=True)
        return names

    def _load(self) -> dict[str, int]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, int])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}


def orphans(known: Mapping[str, int], there: Mapping[str, int], in_use: Iterable[int]) -> list[str]:
    """Return the names of segments that are ours, still the same (by inode), and that nobody uses."""
    busy = set(in_use)
    return sorted(name for name, inode in known.items() if there.get(name) == inode and inode not in busy)


def segments_used(pid: int, folder: Path = SHARED_MEMORY, proc: Path = PROC) -> dict[str, int]:
    """Return the named segments that a process has mapped or open, as inode by name; unlinked ones have no name."""
    return _mapped(proc / str(pid) / "maps", f"{folder}/") | _opened(proc / str(pid) / "fd", f"{folder}/")


def remove_tree(folder: Path) -> None:
    """Remove a temporary folder, all of it; one that is gone already is fine."""
    shutil.rmtree(folder, ignore_errors=True)


def _inodes(folder: Path) -> dict[str, int]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.inode() for entry in entries}
    except FileNotFoundError:
        return {}


def _mapped(maps: Path, prefix: str) -> dict[str, int]:
    try:
        text = maps.read_text(errors="replace")
    except OSError:
        return {}
    if prefix not in text:
        return {}
    rows = (line.split(maxsplit=5) for line in text.splitlines() if prefix in line)
    return {
        row[5].removeprefix(prefix): int(row[4])
        for row in rows
        if len(row) == 6 and row[5].startswith(prefix) and not row[5].endswith(" (deleted)")
    }


def _opened(descriptors: Path, prefix: str) -> dict[str, int]:
    found = {}
    try:
        with os.scandir(descriptors) as entries:
            for entry in entries:
                target = str(Path(entry.path).readlink())
                if target.startswith(prefix) and not target.endswith(" (deleted)"):
                    found[target.removeprefix(prefix)] = entry.stat().st_ino
    except OSError:
        pass
    return found
