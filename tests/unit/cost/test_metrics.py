from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from penstock.cost.ledger import Ledger
from penstock.cost.metrics import CostCollector
from penstock.cost.report import CostReport, build_report
from penstock.cost.spool import SpoolWriter
from tests.unit.cost.builders import life, reading, usage


def reports(directory: Path) -> tuple[CostReport, CostReport]:
    with Ledger(None) as ledger:
        with SpoolWriter(directory, "gateway") as writer:
            for line in (*life(start=0, ready=10, end=40), usage("a", 20, 30, prompt=4, completion=0), reading(0, 41)):
                writer.append(line)
        ledger.ingest(directory)
        ledger.settle(100)
        books = ledger.books()
    return build_report(books, now_s=100, settled_only=True), build_report(books, now_s=100)


def test_a_scrape_shows_who_used_what_and_what_it_cost(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    both = reports(tmp_path)
    registry.register(CostCollector(lambda: both))
    page = generate_latest(registry).decode()
    for sample in (
        'penstock_cost_usd_total{kind="prompt",model="tiny",tenant="acme"} 10.0',
        'penstock_cost_tokens_total{kind="prompt",model="tiny",tenant="acme"} 4.0',
        'penstock_idle_usd_total{cause="min_replicas",model="tiny"} 20.0',
        'penstock_overhead_usd_total{cause="cold_start",model="tiny"} 10.0',
        "penstock_paid_usd_total 41.0",
        'penstock_usd_per_million_tokens{kind="prompt",model="tiny",tenant="acme"} 2.5e+06',
        'penstock_usd_per_million_tokens{kind="blended",model="tiny",tenant=""} 2.5e+06',
        'penstock_usd_per_million_tokens{kind="blended_allocated",model="tiny",tenant=""} 1.025e+07',
        "penstock_cost_unattributed_usd 1.0",
        'penstock_cost_faults_total{reason="malformed"} 0.0',
    ):
        assert sample in page


def test_a_scrape_before_the_first_report_is_empty() -> None:
    registry = CollectorRegistry()
    registry.register(CostCollector(lambda: None))
    assert generate_latest(registry) == b""
