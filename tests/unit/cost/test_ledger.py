from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.cost.ledger import Ledger, snapshot_of
from penstock.cost.receipts import receipt_of
from penstock.cost.records import InFlightMark, SpoolLine
from penstock.cost.report import CostReport, build_report
from penstock.cost.schema import LedgerVersionError
from penstock.cost.spool import SpoolReader, SpoolWriter
from penstock.performance.work import WorkWeights
from tests.unit.cost.builders import life, reading, usage

WEIGHTS = WorkWeights(prompt=1.0, completion=10.0, cached=0.25, provenance="round numbers")


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def write(spool: Path, *lines: SpoolLine, writer: str = "gateway") -> None:
    with SpoolWriter(spool, writer) as out:
        for line in lines:
            out.append(line)


def mark(at_s: float, **oldest_start_s: float) -> InFlightMark:
    return InFlightMark(writer="any", at_s=at_s, oldest_start_s=oldest_start_s)


def report(ledger: Ledger, now_s: float, *, settled_only: bool = False) -> CostReport:
    return build_report(ledger.books(), now_s=now_s, settled_only=settled_only)


def test_a_record_that_comes_twice_counts_once(ledger: Ledger, spool: Path) -> None:
    write(spool, *life(start=0, ready=0, end=10), usage("a", 1, 2), usage("a", 1, 2))
    assert ledger.ingest(spool) == 4
    write(spool, *life(start=0, ready=0, end=10), usage("a", 1, 2), usage("b", 1, 2))
    assert ledger.ingest(spool) == 1
    assert ledger.ingest(spool) == 0
    assert report(ledger, 10).faults["duplicate"] == 2
    assert report(ledger, 10).total.tokens == {"prompt": 20, "cached": 0, "completion": 2}


def test_segments_are_deleted_once_committed_and_their_writer_has_gone(ledger: Ledger, spool: Path) -> None:
    with SpoolWriter(spool, "gateway", segment_bytes=500) as writer:
        for number in range(5):
            writer.append(usage(str(number), 1, 2))
        ledger.ingest(spool)
        assert len(SpoolReader(spool).segments()) == 1
        writer.append(usage("last", 1, 2))
    assert ledger.ingest(spool) == 1
    assert SpoolReader(spool).segments() == []
    assert ledger.usage_record("last") == usage("last", 1, 2)
    assert ledger.usage_record("other") is None


def test_malformed_lines_are_quarantined_and_the_rest_counts(ledger: Ledger, spool: Path) -> None:
    spool.mkdir()
    (spool / "gateway-1-1-000000.jsonl").write_bytes(b'{"torn\n{}\n')
    write(spool, usage("a", 1, 2))
    assert ledger.ingest(spool) == 1
    assert [(segment, offset) for segment, offset, _ in ledger.quarantine()] == [
        ("gateway-1-1-000000.jsonl", 0),
        ("gateway-1-1-000000.jsonl", 7),
    ]
    assert report(ledger, 10).faults == {"duplicate": 0, "late": 0, "clipped": 0, "malformed": 2, "orphaned": 1}


def test_a_bill_worked_by_hand(ledger: Ledger, spool: Path) -> None:
    # A dollar a second. 10 s of cold start, 5 s idle, 10 s of one request (prompt work 10, completion work 30),
    # 5 s of drain; the meter saw the process half a second longer.
    write(
        spool,
        *life(start=100, ready=110, drain=120, end=130),
        usage("a", 115, 125, prompt=10, completion=3),
        reading(99.8, 130.3),
    )
    ledger.ingest(spool)
    for settle in (False, True):
        if settle:
            assert ledger.settle(200, WEIGHTS) == 1
        bill = build_report(ledger.books(), now_s=200, weights=WEIGHTS)
        assert bill.tenants_usd == 10
        assert bill.idle_by_cause_usd == {"drain": 5, "min_replicas": 5}
        assert bill.overhead_by_cause_usd == {"cold_start": 10}
        assert bill.paid_usd == pytest.approx(30.5)
        assert bill.unattributed_usd == pytest.approx(0.5)
        assert bill.drift_ratio == pytest.approx(0.5 / 30.5)
        assert bill.total.usd_by_kind == {"prompt": 2.5, "cached": 0, "completion": 7.5}
        rates = bill.per_million_tokens
        assert (rates.prompt, rates.cached, rates.completion) == (250_000, None, 2_500_000)
        assert rates.blended == pytest.approx(10e6 / 13)
        assert rates.blended_allocated == pytest.approx(30.5e6 / 13)
        assert bill.by_tenant["acme"].usd == bill.by_model["tiny"].usd == 10
        assert bill.by_model["tiny"].paid_usd == pytest.approx(30.5)


def test_requests_under_way_are_pending_and_never_idle(ledger: Ledger, spool: Path) -> None:
    write(spool, *life(start=0, ready=0), writer="operator")
    with SpoolWriter(spool, "gateway") as gateway:
        gateway.append(usage("a", 10, 20))
        gateway.append(mark(50, r1=30.0))
        ledger.ingest(spool)
        ledger.settle(50)
        bill = report(ledger, 50)
        assert (bill.tenants_usd, bill.idle_usd, bill.pending_usd) == (10, 20, 20)
        assert report(ledger, 50, settled_only=True).pending_usd == 0
        # Its record comes, and what was pending is its own.
        gateway.append(usage("long", 30, 60))
        gateway.append(mark(61))
        ledger.ingest(spool)
        ledger.settle(70)
        bill = report(ledger, 61)
        assert (bill.tenants_usd, bill.idle_usd, bill.pending_usd) == (40, 21, 0)
        assert bill.faults["late"] == 0


def test_a_dead_gateway_holds_nothing_back(ledger: Ledger, spool: Path) -> None:
    write(spool, *life(start=0, ready=0), mark(50, r1=30.0))
    ledger.ingest(spool)
    ledger.settle(100)
    assert report(ledger, 100).pending_usd == 0
    assert report(ledger, 100).idle_usd == 100


def test_settled_amounts_only_grow(ledger: Ledger, spool: Path) -> None:
    seen: list[tuple[float, float, float]] = []
    with SpoolWriter(spool, "operator") as operator, SpoolWriter(spool, "gateway") as gateway:
        for event in life(start=0, ready=5):
            operator.append(event)
        for second in range(0, 60, 4):
            gateway.append(usage(f"a{second}", second, second + 3))
            gateway.append(mark(second + 4))
            operator.append(reading(0, second + 4, ended=False))
            ledger.ingest(spool)
            ledger.settle(second + 4)
            bill = report(ledger, second + 4, settled_only=True)
            seen.append((bill.tenants_usd, bill.idle_usd, bill.paid_usd))
        operator.append(life(end=61)[0])
        operator.append(reading(0, 61))
    ledger.ingest(spool)
    ledger.settle(100)
    last = report(ledger, 100, settled_only=True)
    seen.append((last.tenants_usd, last.idle_usd, last.paid_usd))
    for amounts in zip(*seen, strict=True):
        assert list(amounts) == sorted(amounts)
    assert last.unattributed_usd == 0
    assert last.total.tokens["completion"] == 15
    assert ledger.settle(200) == 0


def test_an_open_replica_is_measured_as_far_as_the_meter_saw_it(ledger: Ledger, spool: Path) -> None:
    write(spool, *life(start=0, ready=10), reading(0, 40, ended=False))
    ledger.ingest(spool)
    bill = report(ledger, 5000)
    assert (bill.paid_usd, bill.idle_usd, bill.overhead_usd, bill.unattributed_usd) == (40, 30, 10, 0)


def test_a_record_that_comes_after_its_time_was_settled_is_counted_as_late(ledger: Ledger, spool: Path) -> None:
    write(spool, *life(start=0, ready=0, end=10))
    ledger.ingest(spool)
    ledger.settle(100)
    write(spool, usage("a", 1, 2))
    ledger.ingest(spool)
    bill = report(ledger, 100)
    assert (bill.faults["late"], bill.idle_usd, bill.tenants_usd) == (1, 10, 0)


def test_orphans_are_counted_until_their_replicas_events_come(ledger: Ledger, spool: Path) -> None:
    write(spool, usage("a", 1, 2))
    ledger.ingest(spool)
    assert report(ledger, 10).faults["orphaned"] == 1
    assert report(ledger, 10).total.tokens["prompt"] == 0
    write(spool, *life(start=0, ready=0, end=10))
    ledger.ingest(spool)
    assert report(ledger, 10).faults["orphaned"] == 0
    assert report(ledger, 10).tenants_usd == 1


def test_a_report_from_a_moment_on_leaves_out_what_was_before(ledger: Ledger, spool: Path) -> None:
    write(spool, *life(start=0, ready=10, end=40), usage("a", 20, 30), usage("b", 12, 14), reading(0, 40))
    ledger.ingest(spool)
    ledger.settle(100)
    bill = build_report(ledger.books(since_s=25), now_s=100, since_s=25)
    assert (bill.paid_usd, bill.tenants_usd, bill.idle_usd, bill.overhead_usd) == (15, 5, 10, 0)
    assert bill.total.tokens["prompt"] == 10


def test_a_receipt_adds_what_is_settled_and_what_is_not(ledger: Ledger, spool: Path) -> None:
    with SpoolWriter(spool, "gateway") as gateway:
        for line in (*life(start=0, ready=0), mark(15, r1=10.0)):
            gateway.append(line)
        ledger.ingest(spool)
        ledger.settle(30)
        gateway.append(usage("a", 5, 20, prompt=10, completion=0))
        gateway.append(mark(22))
        ledger.ingest(spool)
        found = receipt_of(ledger, "a", now_s=22)
        assert found is not None
        assert (found.usd, found.settled) == (10, False)  # [5, 10) had been settled as idle: it came late
        ledger.settle(30)
        found = receipt_of(ledger, "a", now_s=30)
        assert found is not None
        assert (found.usd, found.settled, found.borne_by) == (10, True, "tenant")
    assert receipt_of(ledger, "nobody", now_s=30) is None


def test_a_snapshot_holds_ledger_and_spool_and_changes_neither(tmp_path: Path, spool: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        write(spool, *life(start=0, ready=0, end=10), usage("a", 1, 2))
        ledger.ingest(spool)
        write(spool, usage("b", 3, 4))
        before = {segment: segment.read_bytes() for segment in SpoolReader(spool).segments()}
        with snapshot_of(path, spool) as snapshot:
            assert report(snapshot, 10).tenants_usd == 2
        assert report(ledger, 10).tenants_usd == 1
    assert {segment: segment.read_bytes() for segment in SpoolReader(spool).segments()} == before
    with snapshot_of(path, spool) as snapshot:
        assert report(snapshot, 10).tenants_usd == 2
    with snapshot_of(tmp_path / "none.sqlite", spool) as snapshot:
        assert report(snapshot, 10).faults["orphaned"] == 1
    assert not (tmp_path / "none.sqlite").exists()


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(LedgerVersionError, match="version 99"):
        Ledger(path)
