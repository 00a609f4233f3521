"""Reports of stretches that follow each other add up to the report of the stretch that they make together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.cost.ledger import Ledger
from penstock.cost.moments import parse_moment
from penstock.cost.report import CostReport, build_report
from penstock.cost.spool import SpoolWriter
from tests.unit.cost.builders import life, reading, usage


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with SpoolWriter(tmp_path, "gateway") as writer:
        for line in (*life(start=0, ready=10, end=100), usage("a", 20, 50), usage("b", 40, 60), reading(0, 100)):
            writer.append(line)
        for line in (*life(start=80, ready=90, end=120, replica="r2"), reading(80, 120, replica="r2")):
            writer.append(line)
    with Ledger(None) as ledger:
        ledger.ingest(tmp_path)
        yield ledger


def report(ledger: Ledger, since_s: float, until_s: float) -> CostReport:
    return build_report(ledger.books(since_s), now_s=1000, since_s=since_s, until_s=until_s)


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("at_s", [5, 30, 45, 55, 85, 110])
def test_parts_add_up(ledger: Ledger, at_s: float, settled: bool) -> None:
    if settled:
        ledger.settle(1000)
    whole, first, second = report(ledger, 0, 1000), report(ledger, 0, at_s), report(ledger, at_s, 1000)
    for name in ("paid_usd", "tenants_usd", "idle_usd", "overhead_usd", "unattributed_usd"):
        parts = getattr(first, name) + getattr(second, name)
        assert parts == pytest.approx(getattr(whole, name), abs=1e-9), name
    assert first.total.tokens["prompt"] + second.total.tokens["prompt"] == whole.total.tokens["prompt"] == 20
    assert (whole.paid_usd, whole.tenants_usd) == (140, 40)
    assert first.until_s == at_s


def test_moments_are_spans_seconds_and_dates() -> None:
    assert parse_moment("15m", 1000) == 100
    assert parse_moment("1763900000.5", 0) == 1763900000.5
    assert parse_moment("2026-11-23T18:00+00:00", 0) == 1795456800
    for text in ("", "yesterday", "15 m", "0001-01-01T00:00"):
        with pytest.raises(ValueError, match="give a time span"):
            parse_moment(text, 0)
