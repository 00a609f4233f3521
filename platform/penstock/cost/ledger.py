"""The ledger: a SQLite database that takes records out of the spool exactly once and settles them.

Records and the spool offsets up to which they were read are committed in one transaction, so a ledger killed at any
point goes on where its last commit left off. Records that come twice all the same (a retried delivery, a spool restored
from a backup) are told by their identity and counted once.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from penstock.cost.attribution import Attribution
from penstock.cost.books import Amount, Books, LineKey, Lines, Settled, add_lines
from penstock.cost.deliveries import Delivery, Intake, forget_sealed, release_writer, take_deliveries
from penstock.cost.history import History, replicas_in
from penstock.cost.intake import CLIPPED, DUPLICATE, LATE, MALFORMED, ORPHANED, take_batch, tally
from penstock.cost.money import to_ns
from penstock.cost.records import InFlightMark, UsageRecord
from penstock.cost.schema import prepare
from penstock.cost.segments import writer_of
from penstock.cost.sharing import Share
from penstock.cost.spool import SpoolReader
from penstock.cost.timeline import Span, minimum_spans
from penstock.performance.work import NEUTRAL, WorkWeights

Record = TypeVar("Record")

BUSY_TIMEOUT_S = 10.0
"""How long a transaction waits for another process's."""


class Ledger:
    """An open ledger. One process writes it; any number read it meanwhile (`snapshot_of`).

    Args:
        path: The database file; made when missing. None: in memory, gone when closed.
        delete_segments: Delete spool segments whose writer has gone once all they hold is committed.
        copy_of: A ledger to start from; it is not changed.
        read_only: Read beside the process that writes it; `path` must be a ledger.

    Raises:
        LedgerVersionError: Another version of Penstock wrote it.
        sqlite3.DatabaseError: The file is no SQLite database, or cannot be written.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        delete_segments: bool = True,
        copy_of: Path | None = None,
        read_only: bool = False,
    ) -> None:
        self._delete_segments = delete_segments
        self._history: History | None
        if path is not None and read_only:
            self._database = _open_read_only(path)
            self._history = None
            return
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path or ":memory:", timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            if copy_of is not None:
                with contextlib.closing(_open_read_only(copy_of)) as source:
                    source.backup(self._database)
            self._database.execute("PRAGMA journal_mode = WAL")
            # Segments are deleted after a commit: it must be on the disk by then.
            self._database.execute("PRAGMA synchronous = FULL")
            prepare(self._database)
            self._history = History(self._database)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __enter__(self) -> Self:
        """Return the ledger itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the ledger."""
        self.close()

    def ingest(self, spool_directory: Path) -> int:
        """Take in all that stands in the spool and was not read before; return how many new records that was."""
        reader = SpoolReader(spool_directory)
        offsets: dict[str, int] = dict(self._database.execute("SELECT name, offset_bytes FROM segment"))
        taken = 0
        exhausted: set[str] = set()
        for batch in reader.read(offsets):
            with self._transaction():
                taken += take_batch(self._database, batch)
            if batch.exhausted:
                exhausted.add(batch.segment)
                if self._delete_segments:
                    (spool_directory / batch.segment).unlink(missing_ok=True)
        # Listed after the reading: a segment that came in between belongs to a writer that is alive.
        present = {path.name for path in reader.segments()}
        with self._transaction():
            self._forget(offsets.keys() - present, {writer_of(name) for name in present - exhausted})
        return taken

    def take(self, deliveries: Sequence[Delivery], now_s: float) -> Intake:
        """Take in what was delivered over a network, in one transaction; say what is committed of each segment.

        Args:
            deliveries: In the order in which they came; any of them may have come before.
            now_s: Unix seconds.
        """
        with self._transaction():
            return take_deliveries(self._database, deliveries, now_s)

    def identity(self) -> str:
        """Return what tells this ledger from every other; a backup has its original's."""
        (identity,) = self._database.execute("SELECT id FROM identity").fetchone()
        return str(identity)

    def writers(self) -> set[str]:
        """Return the writers whose marks hold settling back."""
        return {writer for (writer,) in self._database.execute("SELECT writer FROM mark WHERE alive")}

    def release(self, writers: Iterable[str]) -> None:
        """Let writers that are taken for dead hold nothing back; one that marks again holds back again."""
        with self._transaction():
            for writer in writers:
                release_writer(self._database, writer)

    def forget_sealed(self, before_s: float) -> int:
        """Forget which segments were delivered whole before a time (Unix seconds); return how many that was.

        A delivery of one of them would be read again, and its records told by their ids.
        """
        with self._transaction():
            return forget_sealed(self._database, before_s)

    def settle(self, now_s: float, weights: WorkWeights = NEUTRAL) -> int:
        """Settle every window whose requests are all known; return how many windows that was."""
        books = self.books()
        windows = 0
        for replica, timeline in books.timelines.items():
            window = books.settling_window(replica, to_ns(now_s))
            if window is None:
                continue
            attribution = books.attribute(replica, window, weights)
            closed = timeline.end_ns is not None and window.known_ns >= timeline.end_ns
            with self._transaction():
                self._post(attribution, Settled(window.known_ns, attribution.last_busy_ns, closed))
            windows += 1
        return windows

    def books(self, since_s: float | None = None, *, replica: str | None = None) -> Books:
        """Return all that is known.

        Args:
            since_s: Leave what was settled aside and return the requests that ended after this time (Unix seconds), to
                attribute them anew. None: what was settled, and the requests that are not.
            replica: Of this replica only, for a receipt; when it was part of its model's minimum is left out.
        """
        with self._transaction("DEFERRED"):
            minimum: Mapping[str, list[Span]] = {}
            if replica is not None:
                timelines, meters = replicas_in(self._database, replica)
            elif self._history is None:
                timelines, meters = replicas_in(self._database)
                minimum = minimum_spans(timelines)
            else:
                self._history.refresh()
                timelines, meters = dict(self._history.timelines), dict(self._history.meters)
                minimum = self._history.minimum
            settled, lines = (
                ({name: Settled(to_ns(since_s)) for name in timelines}, {})
                if since_s is not None
                else (self._settled(replica), self._lines())
            )
            return Books(
                timelines=timelines,
                minimum=minimum,
                meters=meters,
                marks=tuple(self._load("mark", InFlightMark, "WHERE alive")),
                ever_marked=self._database.execute("SELECT 1 FROM mark").fetchone() is not None,
                settled=settled,
                usage={
                    name: self._usage(name, settled.get(name, Settled()).until_ns)
                    for name in timelines
                    if not settled.get(name, Settled()).closed
                },
                lines=lines,
                faults={} if replica is not None else self._faults(timelines.keys()),
            )

    def usage_record(self, request: str) -> UsageRecord | None:
        """Return one request's record."""
        row = self._database.execute("SELECT body FROM usage WHERE id = ?", (request,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=UsageRecord)

    def settled_share(self, request: str) -> Share:
        """Return what a request owes of the windows settled so far."""
        row = self._database.execute(
            "SELECT prompt_picousd, cached_picousd, completion_picousd FROM receipt WHERE id = ?", (request,)
        ).fetchone()
        return Share() if row is None else Share(*row)

    def quarantine(self) -> list[tuple[str, int, str]]:
        """Return the lines that could not be counted: segment, offset in bytes, reason."""
        return self._database.execute(
            "SELECT segment, offset_bytes, reason FROM quarantine ORDER BY segment, offset_bytes"
        ).fetchall()

    @contextlib.contextmanager
    def consistently(self) -> Iterator[None]:
        """Let all that is read inside be of one moment, whatever another process writes meanwhile."""
        with self._transaction("DEFERRED"):
            yield

    @contextlib.contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        if self._database.in_transaction:
            yield
            return
        self._database.execute(f"BEGIN {kind}")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def _forget(self, gone: set[str], alive: set[str]) -> None:
        """Drop the offsets of deleted segments, and the promises of writers that are no more."""
        execute = self._database.execute
        self._database.executemany("DELETE FROM segment WHERE name = ?", [(name,) for name in gone])
        for (writer,) in execute("SELECT writer FROM mark WHERE alive").fetchall():
            if writer not in alive:
                execute("UPDATE mark SET alive = 0 WHERE writer = ?", (writer,))

    def _post(self, attribution: Attribution, state: Settled) -> None:
        """Add a settled window to the lines and receipts."""
        lines: Lines = {}
        add_lines(lines, (attribution,))
        self._database.executemany(
            "INSERT INTO line VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET picousd = picousd + excluded.picousd, tokens = tokens + excluded.tokens",
            [(*key, amount.picousd, amount.tokens) for key, amount in lines.items()],
        )
        self._database.executemany(
            "INSERT INTO receipt VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET prompt_picousd = prompt_picousd + excluded.prompt_picousd, "
            "cached_picousd = cached_picousd + excluded.cached_picousd, "
            "completion_picousd = completion_picousd + excluded.completion_picousd, "
            "ended = max(ended, excluded.ended)",
            [
                (one.record.id, one.share.prompt, one.share.cached, one.share.completion, one.ended)
                for one in attribution.receipts
            ],
        )
        tally(self._database, CLIPPED, attribution.clipped_records)
        self._database.execute(
            "INSERT OR REPLACE INTO settled VALUES (?, ?, ?, ?)",
            (attribution.timeline.replica, state.until_ns, state.last_busy_ns, state.closed),
        )

    def _settled(self, replica: str | None) -> dict[str, Settled]:
        where, values = ("", ()) if replica is None else ("WHERE replica = ?", (replica,))
        rows = self._database.execute(
            f"SELECT replica, until_ns, last_busy_ns, closed FROM settled {where}",  # noqa: S608 - constants
            values,
        )
        return {name: Settled(until_ns, last_busy_ns, bool(closed)) for name, until_ns, last_busy_ns, closed in rows}

    def _lines(self) -> Lines:
        rows = self._database.execute("SELECT model, bearer, name, kind, picousd, tokens FROM line")
        return {LineKey(*key): Amount(picousd, tokens) for *key, picousd, tokens in rows}

    def _usage(self, replica: str, after_ns: int) -> list[UsageRecord]:
        rows = self._database.execute(
            "SELECT body FROM usage WHERE replica = ? AND end_ns > ? AND NOT late ORDER BY end_ns", (replica, after_ns)
        )
        return [_decode_usage(body) for (body,) in rows]

    def _load(self, table: str, kind: type[Record], where: str = "") -> list[Record]:
        decode = msgspec.json.Decoder(kind).decode
        return [decode(body) for (body,) in self._database.execute(f"SELECT body FROM {table} {where}")]  # noqa: S608

    def _faults(self, replicas: Iterable[str]) -> dict[str, int]:
        known = set(replicas)
        faults = dict.fromkeys((DUPLICATE, LATE, CLIPPED, MALFORMED), 0)
        faults |= dict(self._database.execute("SELECT name, records FROM tally"))
        counts = self._database.execute("SELECT replica, records FROM usage_count")
        faults[ORPHANED] = sum(records for replica, records in counts if replica not in known)
        return faults


def snapshot_of(path: Path, spool_directory: Path) -> Ledger:
    """Return a ledger in memory with what the ledger at `path` and the spool beside it hold; changes neither.

    It is a whole copy in memory: its size and time grow with the requests that the ledger holds.

    Raises:
        sqlite3.DatabaseError: `path` is no ledger.
        LedgerVersionError: Another version of Penstock wrote it.
    """
    spool = SpoolReader(spool_directory)
    while True:
        before = spool.segments()
        snapshot = Ledger(None, delete_segments=False, copy_of=path if path.exists() else None)
        snapshot.ingest(spool_directory)
        if set(before) <= set(spool.segments()):
            return snapshot
        # The ledger's owner deleted a segment, perhaps after we copied the ledger and before we read the segment.
        snapshot.close()


def _open_read_only(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)


_decode_usage = msgspec.json.Decoder(UsageRecord).decode
