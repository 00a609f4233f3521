"""The spool: append-only files in which money records wait, on the writer's own disk, for the ledger.

Each file, a *segment*, belongs to one process, which holds an exclusive `flock` on it for as long as it may write. The
kernel drops the lock when the process dies, however it dies, so that a reader knows an open segment from a closed one
without asking anybody. A record survives the death of every Penstock process once `append` has returned; it does not
survive a machine that loses power before the kernel has written the page out.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import msgspec

from penstock.cost.records import SpoolLine
from penstock.cost.segments import (
    READ_BYTES,
    SUFFIX,
    SpoolBatch,
    is_locked,
    parse_lines,
    read_lines,
    segments_in,
    size_of,
)

SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""Size at which a writer opens its next segment; the ledger deletes whole segments, so this bounds what lingers."""

_MEASURE_S: Final = 1.0
"""A full spool is measured no more often than this: a scan for every refused record would slow the requests."""


class SpoolWriter:
    """Appends records to segments that this process alone owns. Use it from one thread.

    Args:
        directory: Where segments go; made when missing.
        writer: Who writes (`gateway`, `operator`), letters, digits, `_` and `.`; the start of every segment's name.
        segment_bytes: Size from which on the next record goes to a new segment.
        limit_bytes: Size of all segments in the directory together from which on records are refused. Each other
            process that writes there may go beyond it by one segment. None: as much as the disk takes.

    Raises:
        ValueError: `writer` holds other characters.
        OSError: The directory cannot be made or written to.
    """

    def __init__(
        self,
        directory: Path,
        writer: str,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        limit_bytes: int | None = None,
    ) -> None:
        if not writer.replace("_", "").replace(".", "").isalnum() or writer.startswith("."):
            raise ValueError(
                f"writer {writer!r}: use letters, digits, '_' and '.' only; it becomes part of a file name"
            )
        directory.mkdir(parents=True, exist_ok=True)
        # Random, since the first process of every pod has the same pid and a ledger reads the spools of many.
        self.identity = f"{writer}-{time.time_ns()}-{secrets.token_hex(4)}"
        self.directory = directory
        self.limit_bytes = limit_bytes
        self._room_bytes = 0
        self._measured_s = float("-inf")
        self._segment_bytes = segment_bytes
        self._encode = msgspec.json.Encoder().encode
        self._sequence = 0
        self._torn = False
        self._size = 0
        self._fd = self._open()

    def append(self, record: SpoolLine) -> None:
        """Write one record with one `write(2)`, a few microseconds.

        Raises:
            OSError: The disk is full or failing, or the spool has reached its limit (`EDQUOT`); the record is then not
                in the spool and may be appended again.
            ValueError: The writer is closed.
        """
        if self._fd < 0:
            raise ValueError("the spool writer is closed")
        line = self._encode(record) + b"\n"
        if self._torn:
            # An earlier write stopped half way: end its line, so that this record is not glued to the rest of it.
            line = b"\n" + line
        if self.limit_bytes is not None and not self._has_room(len(line), self.limit_bytes):
            raise OSError(
                errno.EDQUOT,
                f"the spool {self.directory} has reached its limit of {self.limit_bytes} bytes, "
                f"since the ledger takes nothing out of it",
            )
        written = os.write(self._fd, line)
        self._size += written
        self._room_bytes -= written
        if written != len(line):
            self._finish(line, written)
        self._torn = False
        if self._size >= self._segment_bytes:
            self._rotate()

    def close(self) -> None:
        """Let go of the segment; the ledger may take it from here. Closing twice is allowed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the writer."""
        self.close()

    def _finish(self, line: bytes, written: int) -> None:
        self._torn = True
        while written < len(line):
            count = os.write(self._fd, line[written:])
            written += count
            self._size += count

    def _has_room(self, size_bytes: int, limit_bytes: int) -> bool:
        now_s = time.monotonic()
        if size_bytes > self._room_bytes and now_s >= self._measured_s + _MEASURE_S:
            self._measured_s = now_s
            self._room_bytes = limit_bytes - size_of(self.directory)
        return size_bytes <= self._room_bytes

    def _rotate(self) -> None:
        # The next segment is open before this one is let go, so a reader that sees no open segment of this writer
        # knows that the writer has gone.
        full, self._fd = self._fd, self._open()
        os.close(full)
        self._size = 0
        self._room_bytes, self._measured_s = 0, float("-inf")  # measured anew: others may write here too

    def _open(self) -> int:
        name = f"{self.identity}-{self._sequence:06d}{SUFFIX}"
        self._sequence += 1
        hidden = self.directory / f".{name}"
        fd = os.open(hidden, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        # Locked before it gets its name: no reader ever finds it unlocked and takes it for a dead writer's.
        fcntl.flock(fd, fcntl.LOCK_EX)
        hidden.rename(self.directory / name)
        return fd


class SpoolReader:
    """Reads segments from given offsets on; keeps no state and changes nothing in the directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def segments(self) -> list[Path]:
        """Return the segments there are, by name; an absent directory has none."""
        return segments_in(self._directory)

    def read(self, offsets: Mapping[str, int], *, max_bytes: int = READ_BYTES) -> Iterator[SpoolBatch]:
        """Yield batches of what stands after `offsets` (bytes by segment name; 0 for those not named).

        A last line without its newline is left for a later read while its writer lives, and is malformed once the
        writer has gone.
        """
        for path in self.segments():
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # the ledger had committed and deleted it
            with os.fdopen(fd, "rb") as file:
                # Asked before reading: a segment closed at this point cannot grow behind the read.
                closed = not is_locked(fd)
                yield from self._batches(path.name, file, offsets.get(path.name, 0), closed, max_bytes)

    def _batches(self, segment: str, file: BinaryIO, offset: int, closed: bool, max_bytes: int) -> Iterator[SpoolBatch]:
        while True:
            data, exhausted, at_end = read_lines(file, offset, max_bytes, closed=closed)
            if data or exhausted:
                yield parse_lines(segment, offset, data, exhausted=exhausted)
            if at_end:
                return
            offset += len(data)
