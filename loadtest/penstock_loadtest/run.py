"""Headless load runs for programs: a process with locust in it, its records, and the report they make."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from penstock_loadtest.errors import LoadRunError
from penstock_loadtest.records import RequestRecord, read_records
from penstock_loadtest.report import LoadReport, summarise_records
from penstock_loadtest.settings import LoadSettings

_KILL_AFTER_S = 15.0
"""What the load process gets beyond the stop timeout of its settings."""


class HeadlessRun:
    """A load run in a process of its own, so that gevent's patches stay out of the caller's.

    A context manager: leaving it ends the run. Every finished request is one line of `records_file` at once.
    """

    def __init__(self, settings: LoadSettings, records_file: Path) -> None:
        """Start the load.

        Raises:
            LoadSettingsError: a setting cannot be used.
        """
        settings.check()
        self.settings = settings
        self.records_file = records_file
        records_file.parent.mkdir(parents=True, exist_ok=True)
        records_file.write_bytes(b"")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the run
        self._process = subprocess.Popen(
            [sys.executable, "-m", "penstock_loadtest", str(records_file)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            # Ctrl-C reaches every process of a terminal's group: the caller decides when this one stops.
            start_new_session=True,
        )
        self._process.stdin.write(msgspec.json.encode(settings))  # type: ignore[union-attr] # it is a pipe
        self._process.stdin.close()  # type: ignore[union-attr]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        try:
            self._process.wait(0 if kind is not None else self.settings.stop_timeout_s + _KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    @property
    def pid(self) -> int:
        """The id of the load process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """True until the load process has ended."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Begin no further requests; those that are open get `stop_timeout_s` to finish. Returns at once."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)

    def records(self) -> list[RequestRecord]:
        """Return the requests that have finished so far."""
        return list(read_records(self.records_file))

    def wait(self, timeout_s: float | None = None) -> LoadReport:
        """Wait for the end and return the report.

        Raises:
            LoadRunError: the process failed, or is still running after `timeout_s`.
        """
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise LoadRunError(f"the load is still running after {timeout_s} s; stop() it first") from error
        if code:
            self._log.seek(0)
            text = self._log.read()[-2000:].decode(errors="replace").strip()
            raise LoadRunError(f"the load process ended with code {code}: {text or 'it said nothing'}")
        return summarise_records(self.records())


def run_headless(settings: LoadSettings, records_file: Path | None = None) -> LoadReport:
    """Run a load to its end and return its report. Blocks; from asyncio call it in a thread.

    Args:
        settings: what to do.
        records_file: where each finished request becomes a line of JSON; None keeps none.

    Raises:
        LoadSettingsError: a setting cannot be used.
        LoadRunError: the load process failed.
    """
    with (
        tempfile.TemporaryDirectory(prefix="penstock-load-") as folder,
        HeadlessRun(settings, records_file or Path(folder) / "records.jsonl") as run,
    ):
        return run.wait()
