"""Taking one batch of the spool into the ledger, inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from penstock.cost.money import to_ns
from penstock.cost.records import (
    InFlightMark,
    MeterReading,
    ReplicaCensus,
    ReplicaEvent,
    ReplicaEventKind,
    SpoolLine,
    UsageRecord,
)
from penstock.cost.segments import SpoolBatch, writer_of

DUPLICATE: Final = "duplicate"
"""Tally of requests whose record came again; counted once."""
LATE: Final = "late"
"""Tally of requests whose record came after its time had been settled; in no line."""
CLIPPED: Final = "clipped"
"""Tally of requests that reached out of their replica's life; charged for what lies inside."""
MALFORMED: Final = "malformed"
"""Tally of lines that cannot be read or counted; kept in quarantine."""
ORPHANED: Final = "orphaned"
"""Tally of requests at replicas without any event; in no line until one comes."""

ENDED_UNSEEN: Final = "EndedUnseen"
"""Cause of an end that nobody saw: a census found the replica missing."""

_encode = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(ReplicaEvent).decode
_decode_meter = msgspec.json.Decoder(MeterReading).decode


def take_batch(database: sqlite3.Connection, batch: SpoolBatch) -> int:
    """Insert a batch and move its segment's offset; return how many records of requests and steps were new."""
    row = database.execute("SELECT offset_bytes FROM segment WHERE name = ?", (batch.segment,)).fetchone()
    if (row[0] if row else 0) != batch.start_bytes:
        return 0  # another process took this batch between our reading and our writing
    writer = writer_of(batch.segment)
    taken = sum(_insert(database, record, writer) for record in batch.records)
    tally(database, MALFORMED, len(batch.malformed))
    database.executemany(
        "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?)",
        [(line.segment, line.offset_bytes, line.reason, line.text) for line in batch.malformed],
    )
    database.execute("INSERT OR REPLACE INTO segment VALUES (?, ?)", (batch.segment, batch.end_bytes))
    return taken


def tally(database: sqlite3.Connection, name: str, records: int) -> None:
    """Add to a tally of records that could not be counted as they are."""
    if records:
        database.execute(
            "INSERT INTO tally VALUES (?, ?) ON CONFLICT DO UPDATE SET records = records + excluded.records",
            (name, records),
        )


def _insert(database: sqlite3.Connection, record: SpoolLine, writer: str) -> bool:
    match record:
        case UsageRecord():
            return _insert_usage(database, record)
        case ReplicaEvent():
            return _insert_event(database, record)
        case ReplicaCensus():
            for end in _ends_by(database, record):
                _insert_event(database, end)
        case MeterReading():
            reading = _merged(database, record)
            database.execute("INSERT OR REPLACE INTO meter VALUES (?, ?)", (record.replica, _encode(reading)))
        case InFlightMark():
            # Segments of one writer are read in the order in which they were written: the last one is the newest.
            database.execute("INSERT OR REPLACE INTO mark VALUES (?, ?, 1)", (writer, _encode(record)))
    return False


def _insert_event(database: sqlite3.Connection, event: ReplicaEvent) -> bool:
    """Keep a step, or the earlier of two of one kind: after a change of leader both may have seen it."""
    step = (event.replica, event.kind.value)
    known = database.execute("SELECT body FROM event WHERE replica = ? AND kind = ?", step).fetchone()
    if known is None or event.at_s < _decode_event(known[0]).at_s:
        database.execute("INSERT OR REPLACE INTO event VALUES (?, ?, ?)", (*step, _encode(event)))
    if event.kind is ReplicaEventKind.END:
        database.execute("DELETE FROM open_replica WHERE replica = ?", (event.replica,))
    elif known is None:
        database.execute(
            "INSERT OR IGNORE INTO open_replica SELECT ?1 WHERE NOT EXISTS "
            "(SELECT 1 FROM event WHERE replica = ?1 AND kind = 'End')",
            (event.replica,),
        )
    return known is None


def _ends_by(database: sqlite3.Connection, census: ReplicaCensus) -> list[ReplicaEvent]:
    """Return ends for the replicas that are open in the ledger and missing from a census."""
    present = set(census.replicas)
    ends: list[ReplicaEvent] = []
    for (replica,) in database.execute("SELECT replica FROM open_replica").fetchall():
        if replica in present:
            continue
        bodies = database.execute("SELECT body FROM event WHERE replica = ?", (replica,)).fetchall()
        last = max((_decode_event(body) for (body,) in bodies), key=lambda event: event.at_s)
        # One that was heard of since may have started after the census was taken.
        if last.at_s < census.at_s:
            ends.append(msgspec.structs.replace(last, kind=ReplicaEventKind.END, at_s=census.at_s, cause=ENDED_UNSEEN))
    return ends


def _insert_usage(database: sqlite3.Connection, record: UsageRecord) -> bool:
    end_ns = to_ns(record.end_s)
    settled = database.execute("SELECT until_ns, closed FROM settled WHERE replica = ?", (record.replica,)).fetchone()
    late = settled is not None and (bool(settled[1]) or end_ns <= settled[0])
    row = (record.id, record.replica, end_ns, late, _encode(record))
    if database.execute("INSERT OR IGNORE INTO usage VALUES (?, ?, ?, ?, ?)", row).rowcount == 0:
        tally(database, DUPLICATE, 1)
        return False
    tally(database, LATE, int(late))
    database.execute(
        "INSERT INTO usage_count VALUES (?, 1) ON CONFLICT DO UPDATE SET records = records + 1", (record.replica,)
    )
    return True


def _merged(database: sqlite3.Connection, reading: MeterReading) -> MeterReading:
    """Widen what the meter said before: it began at its earliest claim, and was seen at its latest."""
    row = database.execute("SELECT body FROM meter WHERE replica = ?", (reading.replica,)).fetchone()
    if row is None:
        return reading
    known = _decode_meter(row[0])
    return msgspec.structs.replace(
        reading,
        began_s=min(known.began_s, reading.began_s),
        seen_s=max(known.seen_s, reading.seen_s),
        ended=known.ended or reading.ended,
    )
