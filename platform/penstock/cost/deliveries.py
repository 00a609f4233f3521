"""Deliveries: stretches of segments that come to the ledger over a network, in pieces, again, or not at all.

The ledger owns the truth: of every segment it knows up to which offset it has committed it, and says so after each
delivery. A shipper goes by that word alone, also where it is less than it was before (an older ledger was restored): it
then sends again from there, and keeps a segment until it is told that the whole of it is committed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from penstock.cost.intake import take_batch
from penstock.cost.segments import parse_lines, writer_of


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive whole lines of one segment."""

    segment: str
    start_bytes: int
    data: bytes
    sealed: bool = False
    """Nothing follows in this segment, ever."""
    writer_gone: bool = False
    """Nothing follows from the segment's writer, ever: it holds nothing back any more."""


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger has committed of one segment."""

    offset_bytes: int
    complete: bool = False
    """All of it: the segment may be deleted."""


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """What became of some deliveries."""

    records: int
    """New requests and steps."""
    repeated: int
    """Deliveries of which everything had been committed before."""
    gaps: int
    """Deliveries that did not follow on what is committed, and were left."""
    acknowledged: dict[str, Acknowledgement]
    """By segment."""


def rest_of(delivery: Delivery, committed_bytes: int) -> Delivery | None:
    """Return what of a delivery follows on `committed_bytes`; None where it leaves a gap.

    Offsets that were committed are ends of lines, so that what is left begins with a whole line.
    """
    known_bytes = committed_bytes - delivery.start_bytes
    if known_bytes < 0:
        return None
    return msgspec.structs.replace(delivery, start_bytes=committed_bytes, data=delivery.data[known_bytes:])


def take_deliveries(database: sqlite3.Connection, deliveries: Iterable[Delivery], now_s: float) -> Intake:
    """Take deliveries in, inside a transaction of the caller's.

    Args:
        database: The ledger's.
        deliveries: In the order in which they came.
        now_s: Unix seconds, to forget sealed segments by.
    """
    records = repeated = gaps = 0
    acknowledged: dict[str, Acknowledgement] = {}
    for delivery in deliveries:
        offset_bytes, complete = _committed(database, delivery.segment)
        rest = None if complete else rest_of(delivery, offset_bytes)
        if rest is None:
            repeated += complete
            gaps += not complete
        elif not rest.data and not rest.sealed:
            repeated += 1
        else:
            batch = parse_lines(rest.segment, rest.start_bytes, rest.data, exhausted=rest.sealed)
            records += take_batch(database, batch)
            offset_bytes, complete = batch.end_bytes, rest.sealed
            if rest.sealed:
                database.execute("INSERT INTO sealed VALUES (?, ?)", (rest.segment, now_s))
            if rest.writer_gone:
                release_writer(database, writer_of(rest.segment))
        acknowledged[delivery.segment] = Acknowledgement(offset_bytes=offset_bytes, complete=complete)
    return Intake(records=records, repeated=repeated, gaps=gaps, acknowledged=acknowledged)


def release_writer(database: sqlite3.Connection, writer: str) -> None:
    """Let a writer hold nothing back any more, until it marks again."""
    database.execute("UPDATE mark SET alive = 0 WHERE writer = ?", (writer,))


def forget_sealed(database: sqlite3.Connection, before_s: float) -> int:
    """Forget segments that were sealed before a time (Unix seconds); return how many."""
    sealed = "SELECT name FROM sealed WHERE at_s < ?"
    database.execute(f"DELETE FROM segment WHERE name IN ({sealed})", (before_s,))  # noqa: S608 - a constant
    return database.execute("DELETE FROM sealed WHERE at_s < ?", (before_s,)).rowcount


def _committed(database: sqlite3.Connection, segment: str) -> tuple[int, bool]:
    row = database.execute(
        "SELECT offset_bytes, EXISTS (SELECT 1 FROM sealed WHERE sealed.name = segment.name) "
        "FROM segment WHERE name = ?",
        (segment,),
    ).fetchone()
    return (0, False) if row is None else (row[0], bool(row[1]))
