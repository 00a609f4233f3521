"""The replicas that a ledger knows, kept in memory: only what has changed since is read again."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from penstock.cost.records import MeterReading, ReplicaEvent
from penstock.cost.timeline import ReplicaTimeline, Span, minimum_spans, timelines_of

_FOLLOW = """
CREATE TEMP TABLE changed (replica TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TRIGGER event_changed AFTER INSERT ON main.event
    BEGIN INSERT OR IGNORE INTO changed VALUES (NEW.replica); END;
CREATE TEMP TRIGGER meter_changed AFTER INSERT ON main.meter
    BEGIN INSERT OR IGNORE INTO changed VALUES (NEW.replica); END;
"""

_decode_event = msgspec.json.Decoder(ReplicaEvent).decode
_decode_meter = msgspec.json.Decoder(MeterReading).decode


class History:
    """All replicas of one database, over one connection that writes it.

    The database itself notes what this connection changes, so that a transaction that is rolled back notes nothing;
    what other connections change is noticed as a whole.

    Args:
        database: The connection, with its tables made.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._version: int | None = None
        self._by_model: defaultdict[str, set[str]] = defaultdict(set)
        self.timelines: Mapping[str, ReplicaTimeline] = {}
        self.minimum: Mapping[str, list[Span]] = {}
        self.meters: Mapping[str, MeterReading] = {}
        database.executescript(_FOLLOW)

    def refresh(self) -> None:
        """Read what has changed; call it inside a transaction. What was handed out before stays as it was."""
        (version,) = self._database.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._version = version
            self._read_all()
        else:
            self._read_some([replica for (replica,) in self._database.execute("SELECT replica FROM changed")])
        self._database.execute("DELETE FROM changed")

    def _read_all(self) -> None:
        self.timelines, self.meters = replicas_in(self._database)
        self.minimum = minimum_spans(self.timelines)
        self._by_model.clear()
        for replica, timeline in self.timelines.items():
            self._by_model[timeline.model].add(replica)

    def _read_some(self, replicas: Iterable[str]) -> None:
        timelines, meters, models = dict(self.timelines), dict(self.meters), set()
        for replica in replicas:
            events, readings = replicas_in(self._database, replica)
            meters |= readings
            if events != ({replica: timelines[replica]} if replica in timelines else {}):
                if replica in timelines:
                    models.add(timelines[replica].model)
                    self._by_model[timelines[replica].model].discard(replica)
                timelines |= events
                models.add(timelines[replica].model)
                self._by_model[timelines[replica].model].add(replica)
        self.timelines, self.meters = timelines, meters
        if models:
            # Which replicas make up a model's minimum is a question to all of the model's together.
            own = {replica: timelines[replica] for model in models for replica in self._by_model[model]}
            self.minimum = {**self.minimum, **minimum_spans(own)}


def replicas_in(
    database: sqlite3.Connection, replica: str | None = None
) -> tuple[dict[str, ReplicaTimeline], dict[str, MeterReading]]:
    """Return the lives and meter readings of all replicas, or of one."""
    where, values = ("", ()) if replica is None else ("WHERE replica = ?", (replica,))
    events = database.execute(f"SELECT body FROM event {where}", values)  # noqa: S608 - constants
    readings = database.execute(f"SELECT body FROM meter {where}", values)  # noqa: S608 - constants
    meters = (_decode_meter(body) for (body,) in readings.fetchall())
    return timelines_of(_decode_event(body) for (body,) in events.fetchall()), {one.replica: one for one in meters}
