"""However a platform's records trickle in, settling them bit by bit gives the bill of settling them all at once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.cost.ledger import Ledger
from penstock.cost.records import InFlightMark, ReplicaEvent, SpoolLine, UsageRecord
from penstock.cost.report import CostReport, build_report
from penstock.cost.spool import SpoolWriter
from tests.unit.cost.builders import life, reading, usage

LAST_S = 100
REPLICAS = {
    "r1": life(start=0, ready=5, drain=70, end=80, replica="r1", usd_per_hour="2.99"),
    "r2": life(start=20, ready=30, end=LAST_S, replica="r2", cause="KVBound", usd_per_hour="1.10"),
}


@st.composite
def request(draw: st.DrawFn) -> UsageRecord:
    replica = draw(st.sampled_from(sorted(REPLICAS)))
    start_s = draw(st.integers(300, 650)) / 10
    first_s = start_s + draw(st.integers(0, 20)) / 10
    return usage(
        draw(st.uuids()).hex,
        start_s,
        first_s + draw(st.integers(0, 25)) / 10,
        first_s=first_s,
        prompt=draw(st.integers(0, 900)),
        cached=draw(st.integers(0, 100)),
        completion=draw(st.integers(0, 300)),
        tenant=draw(st.sampled_from(["acme", "beta"])),
        replica=replica,
    )


def events() -> list[ReplicaEvent]:
    return sorted((event for steps in REPLICAS.values() for event in steps), key=lambda event: event.at_s)


def mark(requests: Iterable[UsageRecord], at_s: float) -> InFlightMark:
    oldest: dict[str, float] = {}
    for one in requests:
        if one.start_s <= at_s < one.end_s:
            oldest[one.replica] = min(one.start_s, oldest.get(one.replica, at_s))
    return InFlightMark(writer="gateway", at_s=at_s, oldest_start_s=oldest)


def final_report(ledger: Ledger, spool: Path) -> CostReport:
    return final_report_at(ledger, spool, LAST_S + 100)


@settings(max_examples=40, deadline=None)
@given(st.lists(request(), max_size=15), st.lists(st.integers(1, LAST_S), max_size=10, unique=True))
def test_settling_as_it_comes_gives_the_bill_of_settling_at_the_end(
    requests: list[UsageRecord], stops: list[int]
) -> None:
    lines: list[SpoolLine] = [*events(), *requests, reading(0, 80, replica="r1", usd_per_hour="2.99")]
    with tempfile.TemporaryDirectory() as folder, Ledger(None) as at_once:
        with SpoolWriter(Path(folder), "all") as writer:
            for line in lines:
                writer.append(line)
        whole = final_report(at_once, Path(folder))

    with tempfile.TemporaryDirectory() as folder, Ledger(None) as ledger:
        spool = Path(folder)
        with SpoolWriter(spool, "operator") as operator, SpoolWriter(spool, "gateway") as gateway:
            before_s = -1.0
            for now_s in sorted({*stops, LAST_S}):
                for event in events():
                    if before_s < event.at_s <= now_s:
                        operator.append(event)
                for one in requests:
                    if before_s < one.end_s <= now_s:
                        gateway.append(one)
                gateway.append(mark(requests, now_s))
                ledger.ingest(spool)
                ledger.settle(now_s)
                current = build_report(ledger.books(), now_s=now_s)
                # What is known and what is pending make up the lives so far, to the picodollar.
                spent = current.tenants_usd + current.idle_usd + current.overhead_usd + current.pending_usd
                assert spent == pytest.approx(price_so_far(now_s), abs=1e-11)
                before_s = now_s
            operator.append(reading(0, 80, replica="r1", usd_per_hour="2.99"))
        bit_by_bit = final_report(ledger, spool)

    assert bit_by_bit.faults == whole.faults == dict.fromkeys(whole.faults, 0)
    assert bit_by_bit.total.tokens == whole.total.tokens
    assert bit_by_bit.paid_usd == whole.paid_usd
    for name in ("tenants_usd", "idle_usd", "overhead_usd"):
        assert getattr(bit_by_bit, name) == pytest.approx(getattr(whole, name), abs=1e-11)
    for tenant, account in whole.by_tenant.items():
        assert bit_by_bit.by_tenant[tenant].usd_by_kind == pytest.approx(account.usd_by_kind, abs=1e-9)


def price_so_far(now_s: float) -> float:
    first = max(0.0, min(now_s, 80))
    second = max(0.0, min(now_s, LAST_S) - 20)
    return (first * 2.99 + second * 1.10) / 3600


def test_a_request_that_a_clock_behind_puts_before_the_replica_is_counted_whenever_settling_looks(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger, SpoolWriter(tmp_path / "spool", "gateway") as spool:
        for event in life(start=100, ready=101):
            spool.append(event)
        for marked_s in (97.0, 99.5, 104.0):
            spool.append(InFlightMark(writer=spool.identity, at_s=marked_s, oldest_start_s={}))
            ledger.ingest(tmp_path / "spool")
            ledger.settle(200.0)
            if marked_s == 97.0:
                spool.append(usage("behind", 98.0, 98.9, prompt=10, completion=1))
        for event in life(end=110):
            spool.append(event)
        spool.close()
        report = final_report_at(ledger, tmp_path / "spool", 300.0)
    assert sum(report.total.tokens.values()) == 11
    assert (report.faults["late"], report.faults["clipped"]) == (0, 1)


def final_report_at(ledger: Ledger, spool: Path, now_s: float) -> CostReport:
    ledger.ingest(spool)
    ledger.settle(now_s)
    return build_report(ledger.books(), now_s=now_s, settled_only=True)
