"""Namespaces of one node: their own processes, mounts and network on this machine, entered by `nsenter`."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

INIT = Path(__file__).with_name("init.py")
CGROUPS = Path("/sys/fs/cgroup")
WEIGHTS = {"cpu.shares": 4096, "cpu.weight": 400}
"""By file: a node is many processes, and in one cgroup would together weigh as much as one of the host's."""
PROGRAMS = "programs"
"""The cgroup of the node's own programs, beside kubelet's: pods that want all processors must not starve them."""
PACKAGES = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "openssl": "openssl",
}
"""Debian package of each program that a node needs beside those built from Go modules."""
CNI_PLUGINS = Path("/usr/lib/cni")


class UnsupportedError(RuntimeError):
    """This machine cannot hold a node; the message says what is missing and how to get it."""


def check_machine() -> None:
    """Raise UnsupportedError unless a node can run here."""
    if platform.system() != "Linux":
        raise UnsupportedError(
            f"a node needs Linux's namespaces, and this is {platform.system()}: run it on a Linux machine"
        )
    if os.geteuid() != 0:
        raise UnsupportedError("a node needs root, for its namespaces, mounts and cgroups: run as root")
    missing = sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None})
    if not (CNI_PLUGINS / "ptp").exists():
        missing.append("containernetworking-plugins")
    if missing:
        raise UnsupportedError(f"programs are missing: apt-get install --no-install-recommends {' '.join(missing)}")


@dataclass(frozen=True)
class Namespaces:
    """Running namespaces."""

    pid: int
    """Of their first process, as the host sees it."""

    def enter(self, *command: str | Path, folder: Path | None = None) -> list[str]:
        """Return the command line that runs a command within: to be given to `subprocess`."""
        where = ["--wdns", str(folder)] if folder else []
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-p", *where, "--", *map(str, command)]


@contextlib.contextmanager
def namespaces() -> Iterator[Namespaces]:
    """Make namespaces, and end everything in them on the way out.

    Raises:
        UnsupportedError: this machine cannot; the message names the remedy.
    """
    check_machine()
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    process = subprocess.Popen(
        [*command, sys.executable, str(INIT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # ^C in the terminal is the test's to handle: it still needs the node to clean up
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline() != "ready\n":
            raise UnsupportedError(f"the node's namespaces could not be made: {process.stderr.read().strip()}")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Namespaces(int(children[0]))
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def cgroup(name: str) -> Iterator[str]:
    """Make a cgroup of that name below the root, in every hierarchy, and remove it with all that is below it.

    Yields:
        Its path as kubelet's `cgroupRoot` takes it.
    """
    tops = [root / name for root in _hierarchies()]
    for top in tops:
        (top / PROGRAMS).mkdir(parents=True, exist_ok=True)
        if (top.parent / "cgroup.subtree_control").exists() and (top.parent / "cgroup.controllers").read_text().strip():
            for folder in (top.parent, top):
                wanted = " ".join(f"+{each}" for each in (folder / "cgroup.controllers").read_text().split())
                (folder / "cgroup.subtree_control").write_text(wanted)
        for folder in (top, top / PROGRAMS):
            for file, weight in WEIGHTS.items():
                if (folder / file).exists():
                    (folder / file).write_text(str(weight))
    try:
        yield f"/{name}"
    finally:
        for top in tops:
            _remove(top)


def join_programs(name: str) -> list[str]:
    """Return a command line that goes before another and puts it into the cgroup of the node's programs."""
    # By controller: with version 1, a process is in a cgroup of each.
    joins = [f"echo $$ >{root / name / PROGRAMS / 'cgroup.procs'}" for root in _hierarchies() if _shares(root / name)]
    return ["sh", "-ec", f'{"; ".join(joins)}; exec "$@"', "sh"]


def _shares(folder: Path) -> bool:
    return any((folder / PROGRAMS / file).exists() for file in WEIGHTS)


def _hierarchies() -> list[Path]:
    """Return where cgroups are mounted: one folder with version 2, one a controller with version 1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return sorted(folder for folder in CGROUPS.iterdir() if (folder / "cgroup.procs").exists())


def _remove(top: Path, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    folders = sorted((Path(folder) for folder, _, _ in os.walk(top)), reverse=True)
    for folder in folders:
        while True:
            try:
                folder.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:  # its killed processes are still on their way out
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
