"""The machine a benchmark runs on: what it is, and which of its cores do what."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from penstock_loadtest.bench.records import Machine


class Cores(msgspec.Struct, frozen=True, kw_only=True):
    """Which core the subject has, and which the load and the upstream share. Equal on a machine with one core."""

    subject: int
    load: int

    @property
    def shared(self) -> bool:
        """True when the subject has no core of its own."""
        return self.subject == self.load


def describe_machine() -> Machine:
    """Read the processor, the usable cores, the memory and the kernel from the operating system (Linux)."""
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory_kib = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return Machine(
        cpu=names[0] if names else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory_kib / 1024**2, 1),
        kernel=platform.release(),
    )


def choose_cores() -> Cores:
    """Give the subject the first core this process may use, and the load the last one."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(subject=usable[0], load=usable[-1])


@contextmanager
def pinned_to(core: int) -> Iterator[None]:
    """Run the block, and the processes it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def package_version(name: str) -> str:
    """Return the version of an installed distribution, or `not installed`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
