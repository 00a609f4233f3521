"""The snapshot file: looked at a few times a second, read when it changed, kept out when it is bad."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec

from penstock.routing.snapshot import decode_snapshot
from penstock_gateway.discovery.source import Apply

logger = logging.getLogger(__name__)


class SnapshotFile:
    """Follows a file that its writer replaces by rename (`source.Source`).

    A `stat` costs microseconds and works on every file system, mounted ConfigMaps included, where inotify does not.

    Args:
        path: The file; it may come later.
        apply: Given each new snapshot.
        period_s: How often the file is looked at.
    """

    def __init__(self, path: Path, apply: Apply, *, period_s: float) -> None:
        self._path = path
        self._apply = apply
        self._period_s = period_s
        self._seen: tuple[int, int, int] | None = None
        self.rejected = 0
        """Files that were not snapshots."""
        self.error: str | None = None
        """What is wrong with the file now; the last good snapshot stays in use."""

    def prepare(self) -> None:
        """Apply the file as it is now."""
        self.look()

    async def run(self) -> None:
        """Look at the file until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(self._period_s)

    def cluster(self) -> None:
        """Nothing to report: there is no cluster."""
        return

    def look(self) -> None:
        """Apply the file if it changed since the last look."""
        try:
            stat = self._path.stat()
            mark = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if mark == self._seen:
                return
            self._seen = mark
            snapshot = decode_snapshot(self._path.read_bytes())
        except FileNotFoundError:
            self._note(f"{self._path} does not exist")
        except OSError as error:
            self._note(str(error))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.rejected += 1
            self._note(f"{self._path} is no routing snapshot: {error}")
        else:
            self.error = None
            self._apply(snapshot)

    def _note(self, problem: str) -> None:
        if problem != self.error:
            self.error = problem
            logger.warning("%s; the last good routing snapshot stays in use", problem)
