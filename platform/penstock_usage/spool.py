"""Which of a spool's segments a process ships, and what they hold. Blocking: call it from a thread.

A process ships its own writer's segments and those of writers that have died in the same directory. A dead writer's
are claimed by a lock on the last of them, so that of several processes over one directory one ships them. One segment
of each writer at a time, the oldest: the next one begins when the ledger has committed all of it, which keeps a
writer's order.
"""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from penstock.cost.deliveries import Delivery
from penstock.cost.segments import is_locked, read_lines, segments_in, writer_of


@dataclass(frozen=True, slots=True)
class Source:
    """One segment that is being shipped."""

    path: Path
    file: BinaryIO
    closed: bool
    """Nobody writes it any more."""
    writer_gone: bool
    """And nobody follows it."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look at a spool found."""

    sources: Mapping[str, Source]
    """By segment: the oldest one of each writer that is ours to ship."""
    sizes_bytes: Mapping[str, int]
    """Of every segment in the directory, also of those that others ship."""
    own_segments: int
    """How many of our own writer's there are."""


class SpoolFolder:
    """A spool directory as its shipper sees it.

    Args:
        directory: Need not exist.
        own_writer: `SpoolWriter.identity` of this process; None ships what dead writers left and nothing else.
    """

    def __init__(self, directory: Path, own_writer: str | None) -> None:
        self._directory = directory
        self._own_writer = own_writer
        self._files: dict[str, BinaryIO] = {}
        self._claims: dict[str, tuple[Path, BinaryIO]] = {}

    def look(self) -> Sight:
        """Return what there is to ship now.

        Raises:
            OSError: the directory or a file in it cannot be read.
        """
        lanes = self._lanes()
        firsts: dict[str, tuple[Path, BinaryIO, bool]] = {}
        for writer, paths in lanes.items():
            if writer != self._own_writer and not self._claim(writer, paths[-1]):
                continue
            file = self._open(paths[0])
            if file is not None:
                # Asked before reading: a segment that is closed at this point cannot grow behind the read.
                closed = writer != self._own_writer or not is_locked(file.fileno())
                firsts[writer] = (paths[0], file, closed)
        # Looked at again: a writer opens its next segment before it lets go of the one before.
        now = self._lanes()
        sources = {
            path.name: Source(path, file, closed, writer_gone=closed and now.get(writer, [path])[-1] == path)
            for writer, (path, file, closed) in firsts.items()
            if writer == self._own_writer or now.get(writer, [path])[-1] == lanes[writer][-1]
        }
        self._let_go(keep=sources.keys(), writers=now.keys())
        return Sight(sources, _sizes(now), len(now.get(self._own_writer or "", ())))

    def read(self, source: Source, offset_bytes: int, batch_bytes: int, room_bytes: int) -> list[Delivery]:
        """Return what stands in a segment from an offset on, in deliveries of about `batch_bytes`.

        Args:
            source: The segment.
            offset_bytes: Where to begin.
            batch_bytes: Size of a delivery; a longer line makes a longer one.
            room_bytes: How much to read; the delivery that reaches it is the last.

        Raises:
            OSError: the disk fails.
        """
        deliveries: list[Delivery] = []
        while room_bytes > 0:
            data, exhausted, at_end = read_lines(source.file, offset_bytes, batch_bytes, closed=source.closed)
            if data or exhausted:
                deliveries.append(
                    Delivery(
                        segment=source.path.name,
                        start_bytes=offset_bytes,
                        data=data,
                        sealed=exhausted,
                        writer_gone=exhausted and source.writer_gone,
                    )
                )
            if at_end:
                break
            offset_bytes += len(data)
            room_bytes -= len(data)
        return deliveries

    def delete(self, segment: str) -> None:
        """Delete a segment that the ledger has committed whole.

        Raises:
            OSError: the disk refuses.
        """
        (self._directory / segment).unlink(missing_ok=True)
        file = self._files.pop(segment, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        """Let go of every file and claim."""
        self._let_go(keep=(), writers=())

    def _lanes(self) -> dict[str, list[Path]]:
        lanes: dict[str, list[Path]] = {}
        for path in segments_in(self._directory):
            lanes.setdefault(writer_of(path.name), []).append(path)
        return lanes

    def _open(self, path: Path) -> BinaryIO | None:
        file = self._files.get(path.name)
        if file is None:
            try:
                file = path.open("rb")
            except FileNotFoundError:
                return None
            self._files[path.name] = file
        return file

    def _claim(self, writer: str, last: Path) -> bool:
        """Take a dead writer's segments for ours; False while the writer lives or another process has them."""
        held = self._claims.get(writer)
        if held is not None:
            if held[0] == last:
                return True
            held[1].close()  # the writer went on: it was between two segments, not dead
            del self._claims[writer]
        try:
            file = last.open("rb")
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._claims[writer] = (last, file)
        return True

    def _let_go(self, keep: Collection[str], writers: Collection[str]) -> None:
        for segment in self._files.keys() - set(keep):
            self._files.pop(segment).close()
        for writer in self._claims.keys() - set(writers):
            self._claims.pop(writer)[1].close()


def _sizes(lanes: Mapping[str, list[Path]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for paths in lanes.values():
        for path in paths:
            try:
                sizes[path.name] = path.stat().st_size
            except FileNotFoundError:
                continue
    return sizes
