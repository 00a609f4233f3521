"""Segments: the spool's files as those see them who read, ship or measure them."""

from __future__ import annotations

import fcntl
import io
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from penstock.cost.records import SpoolLine
from penstock.cost.validity import fault_of

SUFFIX: Final = ".jsonl"
"""How the names of segments end."""

READ_BYTES: Final = 4 * 1024 * 1024
"""How much of a segment one batch reads: bounds the ledger's memory and the length of its transactions."""

QUARANTINE_BYTES: Final = 4096
"""How much of a malformed line is kept for people to look at."""


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


def segments_in(directory: Path) -> list[Path]:
    """Return a spool's segments by name, so that those of one writer are in the order in which they were written.

    An absent directory has none.
    """
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def size_of(directory: Path) -> int:
    """Return how many bytes a spool's segments hold together."""
    sizes = 0
    for path in segments_in(directory):
        try:
            sizes += path.stat().st_size
        except FileNotFoundError:
            continue  # committed and deleted meanwhile
    return sizes


def read_lines(file: BinaryIO, offset: int, max_bytes: int, *, closed: bool) -> tuple[bytes, bool, bool]:
    """Read whole lines of a segment.

    Args:
        file: The segment.
        offset: Where to begin, in bytes.
        max_bytes: How much to read; a single longer line is read whole.
        closed: Nobody writes the segment any more, asked before this call (`is_locked`).

    Returns:
        The lines; whether the segment holds nothing more, ever; whether it holds nothing more now. Of a closed segment
        the last line may be torn.
    """
    file.seek(offset)
    data = file.read(max_bytes)
    at_end = len(data) < max_bytes
    if not at_end and b"\n" not in data:
        data += file.readline()
    if not (at_end and closed):
        data = data[: data.rfind(b"\n") + 1]
    return data, at_end and closed, at_end


_decode_line = msgspec.json.Decoder(SpoolLine).decode


def parse_lines(segment: str, start_bytes: int, data: bytes, *, exhausted: bool) -> SpoolBatch:
    """Return the lines that stand in a segment from an offset on as records."""
    records: list[SpoolLine] = []
    malformed: list[MalformedLine] = []
    offset = start_bytes
    for line in io.BytesIO(data):  # ends lines at newlines only, unlike splitlines
        text = line.rstrip(b"\n")
        if text:  # an empty line ends a torn one, see SpoolWriter.append
            try:
                record = _decode_line(text)
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


def is_locked(fd: int) -> bool:
    """Return whether some process may still write the segment that is open as `fd`."""
    # A shared lock: readers that ask at the same time do not take each other for the writer.
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
