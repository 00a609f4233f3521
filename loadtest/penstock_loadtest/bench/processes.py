"""Processes of a benchmark: started with a log, measured as a tree from /proc, ended by id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from penstock_loadtest.bench.machine import pinned_to
from penstock_loadtest.errors import SubjectFailedError

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Process:
    """A program and its children."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        core: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        # Pinned from its first instruction: runtimes count the cores they may use when they start.
        with log.open("wb") as output, nullcontext() if core is None else pinned_to(core):
            self._popen = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The id of the first process."""
        return self._popen.pid

    def wait_for_port(self, port: int, timeout_s: float) -> None:
        """Wait until something accepts connections on a loopback port.

        Raises:
            SubjectFailedError: the process ended first, or time ran out; the message holds the end of its log.
        """
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            self.check_alive()
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise SubjectFailedError(
            f"{self.name} did not listen on port {port} within {timeout_s:.0f} s: {self.log_end()}"
        )

    def check_alive(self) -> None:
        """Raise SubjectFailedError if the first process has ended."""
        code = self._popen.poll()
        if code is not None:
            raise SubjectFailedError(f"{self.name} ended with code {code}: {self.log_end()}")

    def cpu_s(self) -> float:
        """Return the processor seconds used so far by all processes of the tree."""
        return sum(_cpu_ticks(pid) for pid in self.tree()) / _TICKS_PER_S

    def rss_bytes(self) -> int:
        """Return the resident memory of all processes of the tree; shared pages count in each."""
        return sum(_rss_pages(pid) for pid in self.tree()) * _PAGE_BYTES

    def tree(self) -> list[int]:
        """Return the ids of the process and of all that descend from it."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            fields = _stat_fields(int(entry.name)) if entry.name.isdigit() else []
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found = [self.pid]
        for pid in found:
            found.extend(children.get(pid, []))
        return found

    def stop(self, grace_s: float = 10.0) -> None:
        """End the tree: SIGTERM, and SIGKILL for what is left after `grace_s`."""
        if self._popen.poll() is None:
            family = self.tree()
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(grace_s)
            except subprocess.TimeoutExpired:
                for pid in family:
                    _kill(pid)
                self._popen.wait()

    def log_end(self) -> str:
        """Return the last lines of its log."""
        return self.log.read_text(errors="replace")[-800:].strip() or "its log is empty"


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on (state, parent, ...); empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_ticks(pid: int) -> int:
    fields = _stat_fields(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _rss_pages(pid: int) -> int:
    fields = _stat_fields(pid)
    return int(fields[21]) if fields else 0
