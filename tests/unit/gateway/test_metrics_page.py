"""The metrics reference: it names every metric that is exported, with its type and labels, and no other."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric

from penstock.cost.ledger import Ledger
from penstock.cost.metrics import CostCollector
from penstock.cost.report import build_report
from penstock.local.metrics import StatusCollector
from penstock_gateway.discovery.kubernetes import KubernetesDiscovery
from penstock_gateway.gateway import Gateway
from penstock_gateway.metrics import GatewayCollector
from penstock_gateway.settings import KubernetesOptions, Settings

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
ELSEWHERE = "\n## The way to the ledger"
"""From here on the page is about operator and ledger: tests/unit/operator/test_metrics_page.py."""
ROW = re.compile(r"^\| `(penstock_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)

Described = set[tuple[str, str, tuple[str, ...]]]


def described() -> Described:
    text = PAGE.read_text().partition(ELSEWHERE)[0]
    return {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(text)}


def exported(metrics: Iterable[Metric]) -> Described:
    return {
        (metric.name + "_total" * (metric.type == "counter"), metric.type, tuple(metric._labelnames))
        for metric in metrics
    }


async def test_the_page_names_what_is_exported(tmp_path: Path):
    with Ledger(None) as ledger:
        report = build_report(ledger.books(), now_s=0.0)
    (tmp_path / "kubeconfig").write_text("{}")
    options = KubernetesOptions(enabled=True, kubeconfig=tmp_path / "kubeconfig")
    gateway = Gateway(Settings(kubernetes=options, spool_directory=tmp_path / "spool"))
    assert isinstance(gateway.discovery, KubernetesDiscovery)
    metrics = [
        *GatewayCollector(gateway).collect(),
        *StatusCollector(lambda: None).collect(),
        *CostCollector(lambda: (report, report)).collect(),
    ]
    await gateway.stop()
    assert len(metrics) > 20
    assert described() == exported(metrics)
