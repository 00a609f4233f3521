"""One writer a database: a lock on a file beside it, which the kernel drops however its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class DatabaseLock:
    """The right to write a database. Take it before opening the database, and hold it until the process ends.

    Args:
        database: The database's file.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        self._fd = -1

    def take(self) -> bool:
        """Try to take it; False while another process holds it.

        Raises:
            OSError: the file beside the database cannot be made.
        """
        if self._fd >= 0:
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def release(self) -> None:
        """Let go of it. Doing so twice is allowed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
