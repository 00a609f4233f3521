"""The spool: append-only files in which money records wait, on the writer's own disk, for the ledger.

Each file, a *segment*, belongs to one process, which holds an exclusive `flock` on it for as long as it may write. The
kernel drops the lock when the process dies, however it dies, so that a reader knows an open segment from a closed one
without asking anybody. A record survives the death of every Penstock process once `append` has returned; it does not
survive a machine that loses power before the kernel has written the page out.
"""

from __future__ import annotations

import fcntl
import io
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import msgspec

from penstock.cost.records import SpoolLine
from penstock.cost.validity import fault_of

SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""Size at which a writer opens its next segment; the ledger deletes whole segments, so this bounds what lingers."""

READ_BYTES: Final = 4 * 1024 * 1024
"""How much of a segment one batch reads: bounds the ledger's memory and the length of its transactions."""

QUARANTINE_BYTES: Final = 4096
"""How much of a malformed line is kept for people to look at."""

_SUFFIX: Final = ".jsonl"


class SpoolWriter:
    """Appends records to segments that this process alone owns. Use it from one thread.

    Args:
        directory: Where segments go; made when missing.
        writer: Who writes (`gateway`, `operator`), letters, digits, `_` and `.`; the start of every segment's name.
        segment_bytes: Size from which on the next record goes to a new segment.

    Raises:
        ValueError: `writer` holds other characters.
        OSError: The directory cannot be made or written to.
    """

    def __init__(self, directory: Path, writer: str, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        if not writer.replace("_", "").replace(".", "").isalnum() or writer.startswith("."):
            raise ValueError(
                f"writer {writer!r}: use letters, digits, '_' and '.' only; it becomes part of a file name"
            )
        directory.mkdir(parents=True, exist_ok=True)
        self.identity = f"{writer}-{time.time_ns()}-{os.getpid()}"
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._encode = msgspec.json.Encoder().encode
        self._sequence = 0
        self._torn = False
        self._size = 0
        self._fd = self._open()

    def append(self, record: SpoolLine) -> None:
        """Write one record with one `write(2)`, a few microseconds.

        Raises:
            OSError: The disk is full or failing; the record is then not in the spool and may be appended again.
            ValueError: The writer is closed.
        """
        if self._fd < 0:
            raise ValueError("the spool writer is closed")
        line = self._encode(record) + b"\n"
        if self._torn:
            # An earlier write stopped half way: end its line, so that this record is not glued to the rest of it.
            line = b"\n" + line
        written = os.write(self._fd, line)
        self._size += written
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

    def _rotate(self) -> None:
        # The next segment is open before this one is let go, so a reader that sees no open segment of this writer
        # knows that the writer has gone.
        full, self._fd = self._fd, self._open()
        os.close(full)
        self._size = 0

    def _open(self) -> int:
        name = f"{self.identity}-{self._sequence:06d}{_SUFFIX}"
        self._sequence += 1
        hidden = self._directory / f".{name}"
        fd = os.open(hidden, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        # Locked before it gets its name: no reader ever finds it unlocked and takes it for a dead writer's.
        fcntl.flock(fd, fcntl.LOCK_EX)
        hidden.rename(self._directory / name)
        return fd


class MalformedLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that is no record, or one that cannot be counted: where it stands and what is wrong with it."""

    segment: str
    offset_bytes: int
    text: bytes
    reason: str


class SpoolBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive whole lines of one segment."""

    segment: str
    """File name in the spool directory."""
    start_bytes: int
    end_bytes: int
    """Offset from which the next read goes on."""
    records: tuple[SpoolLine, ...]
    malformed: tuple[MalformedLine, ...]
    exhausted: bool
    """The writer has gone or moved on, and this batch reaches the end: the segment holds nothing more, ever."""


class SpoolReader:
    """Reads segments from given offsets on; keeps no state and changes nothing in the directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._decoder: msgspec.json.Decoder[SpoolLine] = msgspec.json.Decoder(SpoolLine)

    def segments(self) -> list[Path]:
        """Return the segments there are, by name; an absent directory has none."""
        if not self._directory.is_dir():
            return []
        return sorted(path for path in self._directory.glob(f"*{_SUFFIX}") if not path.name.startswith("."))

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
                closed = not _is_locked(fd)
                yield from self._batches(path.name, file, offsets.get(path.name, 0), closed, max_bytes)

    def _batches(self, segment: str, file: BinaryIO, offset: int, closed: bool, max_bytes: int) -> Iterator[SpoolBatch]:
        while True:
            file.seek(offset)
            data = file.read(max_bytes)
            at_end = len(data) < max_bytes
            if not at_end and b"\n" not in data:
                data += file.readline()
            if not (at_end and closed):
                data = data[: data.rfind(b"\n") + 1]
            batch = self._parse(segment, offset, data, exhausted=at_end and closed)
            if batch.end_bytes > offset or batch.exhausted:
                yield batch
            if at_end:
                return
            offset = batch.end_bytes

    def _parse(self, segment: str, start_bytes: int, data: bytes, *, exhausted: bool) -> SpoolBatch:
        records: list[SpoolLine] = []
        malformed: list[MalformedLine] = []
        offset = start_bytes
        for line in io.BytesIO(data):  # ends lines at newlines only, unlike splitlines
            text = line.rstrip(b"\n")
            if text:  # an empty line ends a torn one, see SpoolWriter.append
                try:
                    record = self._decoder.decode(text)
                    reason = fault_of(record)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    reason = str(error)
                if reason is None:
                    records.append(record)
                else:
                    malformed.append(
                        MalformedLine(segment=segment, offset_bytes=offset, text=text[:QUARANTINE_BYTES], reason=reason)
                    )
            offset += len(line)
        return SpoolBatch(
            segment=segment,
            start_bytes=start_bytes,
            end_bytes=offset,
            records=tuple(records),
            malformed=tuple(malformed),
            exhausted=exhausted,
        )


def writer_of(segment: str) -> str:
    """Return the `SpoolWriter.identity` whose segment this file name is."""
    return segment.rsplit("-", 1)[0]


def _is_locked(fd: int) -> bool:
    # A shared lock: readers that ask at the same time do not take each other for the writer.
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
