"""The metrics reference of operator, ledger and shippers: it names what they export, and nothing else."""

import re
from pathlib import Path
from types import SimpleNamespace

from prometheus_client import CollectorRegistry

from penstock_operator.ledger.metrics import LedgerCollector
from penstock_operator.metrics import ModelCollector
from penstock_operator.runtime.metrics import RuntimeMetrics
from penstock_operator.world import World
from penstock_usage.metrics import ShipperCollector

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
ROW = re.compile(r"^\| `(penstock_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)


class Anything:
    """Has every field, and each is 1."""

    def __getattr__(self, name):
        return 1


def described():
    text = PAGE.read_text().partition("\n## The way to the ledger")[2]
    return {(name, kind) for name, kind, _ in ROW.findall(text)}


def labels_of(name):
    text = PAGE.read_text().partition("\n## The way to the ledger")[2]
    (found,) = [labels for row, _, labels in ROW.findall(text) if row == name]
    return set(re.findall(r"`(\w+)`", found))


def test_the_page_names_what_is_exported():
    registry = CollectorRegistry()
    RuntimeMetrics(registry)
    state = SimpleNamespace(state=Anything(), limit_bytes=1)
    collectors = (
        ModelCollector(World(*([None] * 8)), SimpleNamespace(is_leader=True)),
        LedgerCollector(state, state),
        ShipperCollector(state),
    )
    metrics = [*registry.collect(), *(metric for each in collectors for metric in each.collect())]
    assert described() == {(metric.name + "_total" * (metric.type == "counter"), metric.type) for metric in metrics}


def test_the_page_names_their_labels():
    registry = CollectorRegistry()
    metrics = RuntimeMetrics(registry)
    metrics.follow_queue("pool", lambda: 0, lambda: 0)
    metrics.reconciled("pool", "bug", 0.1)
    metrics.watch_restarted("models", "gone")
    metrics.called("get", "models", 200, 0.1)
    for metric in registry.collect():
        name = metric.name + "_total" * (metric.type == "counter")
        assert {label for sample in metric.samples for label in sample.labels} - {"le"} == labels_of(name)
    for metric in ModelCollector(World(*([None] * 8)), SimpleNamespace(is_leader=True)).collect():
        assert set(metric._labelnames) == labels_of(metric.name)
