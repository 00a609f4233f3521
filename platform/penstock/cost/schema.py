"""The ledger's tables."""

from __future__ import annotations

import sqlite3
from typing import Final

_TABLES: Final = """
CREATE TABLE segment (
    -- How far each spool file has been read; written in the transaction that writes what was read.
    name TEXT PRIMARY KEY, offset_bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE quarantine (
    segment TEXT NOT NULL, offset_bytes INTEGER NOT NULL, reason TEXT NOT NULL, text BLOB NOT NULL,
    PRIMARY KEY (segment, offset_bytes)
) WITHOUT ROWID;
CREATE TABLE usage (
    -- `late`: came after its time had been settled; its tokens and work are in no line.
    id TEXT PRIMARY KEY, replica TEXT NOT NULL, end_ns INTEGER NOT NULL, late INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE INDEX usage_by_time ON usage (replica, end_ns);
CREATE TABLE usage_count (replica TEXT PRIMARY KEY, records INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE event (
    replica TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (replica, kind)
) WITHOUT ROWID;
CREATE TABLE meter (replica TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE mark (writer TEXT PRIMARY KEY, body BLOB NOT NULL, alive INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE settled (
    replica TEXT PRIMARY KEY, until_ns INTEGER NOT NULL, last_busy_ns INTEGER, closed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE line (
    model TEXT NOT NULL, bearer TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
    picousd INTEGER NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (model, bearer, name, kind)
) WITHOUT ROWID;
CREATE TABLE receipt (
    -- What a request owes of the settled windows; it may owe more of the windows to come while `ended` is 0.
    id TEXT PRIMARY KEY, prompt_picousd INTEGER NOT NULL, cached_picousd INTEGER NOT NULL,
    completion_picousd INTEGER NOT NULL, ended INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE tally (name TEXT PRIMARY KEY, records INTEGER NOT NULL) WITHOUT ROWID;
"""

_DELIVERIES: Final = """
CREATE TABLE sealed (
    -- Delivered segments that hold nothing more: a delivery that comes again is told by its row here.
    name TEXT PRIMARY KEY, at_s REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE identity (
    -- One row: what tells this ledger from another one, also when a backup of it goes on elsewhere.
    id TEXT PRIMARY KEY
) WITHOUT ROWID;
CREATE TABLE open_replica (
    -- Replicas without an end.
    replica TEXT PRIMARY KEY
) WITHOUT ROWID;
INSERT INTO open_replica SELECT DISTINCT replica FROM event AS one
    WHERE NOT EXISTS (SELECT 1 FROM event WHERE event.replica = one.replica AND event.kind = 'End');
INSERT INTO identity VALUES (lower(hex(randomblob(8))));
"""

_STEPS: Final = (_TABLES, _DELIVERIES)
"""What brings a ledger from version n to n + 1. Steps are added, and never changed."""

VERSION: Final = len(_STEPS)


class LedgerVersionError(Exception):
    """The ledger was written by another version of Penstock."""


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables in a new ledger, bring those of an older version up to date, and refuse those of a newer one.

    Raises:
        LedgerVersionError: Its tables are not ones this version knows.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise LedgerVersionError(
            f"the ledger has tables of version {version}, this Penstock knows version {VERSION}: "
            f"read it with the Penstock that wrote it, or move it away to begin a new one"
        )
    if version < VERSION:
        steps = "".join(_STEPS[version:])
        connection.executescript(f"BEGIN IMMEDIATE;{steps}PRAGMA user_version = {VERSION};COMMIT;")
