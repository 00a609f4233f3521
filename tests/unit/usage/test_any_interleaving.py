"""Whatever is lost, repeated or killed on the way, in whatever order: in the end the ledger has every record once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock.cost.deliveries import Acknowledgement
from penstock.cost.ledger import Ledger
from penstock.cost.records import InFlightMark
from penstock.cost.segments import segments_in
from penstock.cost.spool import SpoolWriter
from penstock_usage.plan import Sent, Shipment, with_answer, with_sent
from penstock_usage.spool import SpoolFolder
from penstock_usage.wire import decode_delivery, encode_delivery
from tests.unit.cost.builders import usage

BATCH_BYTES = 600
WINDOW_BYTES = 2000


class Stream:
    """What Redis holds."""

    def __init__(self) -> None:
        self.entries: dict[bytes, dict[bytes, bytes]] = {}
        self.acknowledged: dict[str, Acknowledgement] = {}
        self._next = 0

    def add(self, fields: dict[bytes, bytes]) -> bytes:
        self._next += 1
        entry = b"%d-0" % self._next
        self.entries[entry] = fields
        return entry


class WayOfRecords(RuleBasedStateMachine):
    """One pod after another over one spool, one Redis, one ledger."""

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory()
        self.directory = Path(self._temporary.name)
        self.stream = Stream()
        self.ledger = Ledger(None)
        self.appended: list[str] = []
        self.by_writer: dict[str, list[str]] = {}

    @initialize()
    def start(self) -> None:
        self.writer = SpoolWriter(self.directory, "gateway", segment_bytes=1500)
        self.folder = SpoolFolder(self.directory, self.writer.identity)
        self.shipments: dict[str, Shipment] = {}

    @rule(count=st.integers(1, 8))
    def append(self, count: int) -> None:
        for _ in range(count):
            name = f"r{len(self.appended)}"
            self.writer.append(usage(name, len(self.appended), len(self.appended) + 1))
            self.appended.append(name)
            self.by_writer.setdefault(self.writer.identity, []).append(name)

    @rule(at_s=st.integers(0, 100))
    def mark(self, at_s: int) -> None:
        self.writer.append(InFlightMark(writer=self.writer.identity, at_s=at_s, oldest_start_s={}))

    @rule(answer_lost=st.booleans())
    def ship(self, answer_lost: bool) -> None:
        """One look of the shipper; the answer to what it adds may be lost, as when the connection breaks."""
        sight = self.folder.look()
        self.shipments = {name: self.shipments.get(name) or Shipment(name) for name in sight.sources}
        for name, shipment in self.shipments.items():
            present = shipment.oldest in self.stream.entries
            self.shipments[name] = with_answer(shipment, self.stream.acknowledged.get(name), oldest_present=present)
        for name in [name for name, one in self.shipments.items() if one.complete]:
            self.folder.delete(name)
        room = WINDOW_BYTES - sum(one.in_flight_bytes for one in self.shipments.values())
        for name, shipment in self.shipments.items():
            if shipment.sealed:
                continue
            deliveries = self.folder.read(sight.sources[name], shipment.sent_bytes, BATCH_BYTES, room)
            sent = [
                Sent(
                    self.stream.add(encode_delivery(one)),
                    one.start_bytes,
                    one.start_bytes + len(one.data),
                    one.data.count(b"\n"),
                    one.sealed,
                )
                for one in deliveries
            ]
            if not answer_lost:
                self.shipments[name] = with_sent(shipment, sent)

    @rule(count=st.integers(1, 10), killed=st.sampled_from(["not", "before the commit", "after the commit"]))
    def take(self, count: int, killed: str) -> None:
        """One reading of the ledger, which may be killed around its commit."""
        if killed == "before the commit":
            return
        entries = list(self.stream.entries.items())[:count]
        intake = self.ledger.take([decode_delivery(fields) for _, fields in entries], now_s=0)
        if killed == "after the commit":
            return
        self.stream.acknowledged |= intake.acknowledged
        for entry, _ in entries:
            del self.stream.entries[entry]

    @rule()
    def flush_redis(self) -> None:
        self.stream.entries.clear()
        self.stream.acknowledged.clear()

    @rule(data=st.data())
    def fail_over_redis(self, data: st.DataObject) -> None:
        """A replica takes over that lacks the newest entries and some acknowledgements."""
        kept = data.draw(st.integers(0, len(self.stream.entries)))
        self.stream.entries = dict(list(self.stream.entries.items())[:kept])
        for segment in list(self.stream.acknowledged):
            if data.draw(st.booleans()):
                del self.stream.acknowledged[segment]

    @rule(data=st.data())
    def repeat_an_entry(self, data: st.DataObject) -> None:
        if self.stream.entries:
            self.stream.add(data.draw(st.sampled_from(list(self.stream.entries.values()))))

    @rule(data=st.data())
    def lose_an_entry(self, data: st.DataObject) -> None:
        if self.stream.entries:
            del self.stream.entries[data.draw(st.sampled_from(list(self.stream.entries)))]

    @rule()
    def kill_the_gateway(self) -> None:
        """The kernel lets go of its locks; the next process of the pod finds its spool."""
        self.writer.close()
        self.folder.close()
        self.start()

    @invariant()
    def nothing_is_deleted_that_is_not_committed(self) -> None:
        there = {path.name for path in segments_in(self.directory)} if self.appended else set()
        waiting = b"".join(path.read_bytes() for path in segments_in(self.directory)).decode() if there else ""
        for name in self.appended:
            assert self.ledger.usage_record(name) is not None or f'"id":"{name}"' in waiting

    @invariant()
    def each_writers_records_come_in_the_order_in_which_they_were_written(self) -> None:
        for names in self.by_writer.values():
            committed = [self.ledger.usage_record(name) is not None for name in names]
            assert committed == sorted(committed, reverse=True)

    def teardown(self) -> None:
        try:
            self.writer.close()
            for _ in range(400):
                self.ship(answer_lost=False)
                self.take(count=10, killed="not")
                if not segments_in(self.directory) and not self.stream.entries:
                    break
            assert segments_in(self.directory) == []
            assert [name for name in self.appended if self.ledger.usage_record(name) is None] == []
            faults = self.ledger.books().faults
            assert (faults["duplicate"], faults["malformed"], faults["late"]) == (0, 0, 0)
            assert faults["orphaned"] == len(self.appended)
            assert self.ledger.quarantine() == []
            assert self.ledger.writers() == set()  # each writer's last words have come
        finally:
            self.folder.close()
            self.ledger.close()
            self._temporary.cleanup()


TestWayOfRecords = WayOfRecords.TestCase
TestWayOfRecords.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
