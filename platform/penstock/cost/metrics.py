"""Cost reports as Prometheus metrics: plain data first, and a collector around it for those who serve `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from penstock.cost.books import TENANT
from penstock.cost.report import CostReport, PerMillionTokens

if TYPE_CHECKING:
    from prometheus_client import Metric


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name as scraped, and its samples by the values of its labels."""

    name: str
    help: str
    type: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    samples: tuple[tuple[tuple[str, ...], float], ...]


def cost_families(settled: CostReport, current: CostReport) -> list[Family]:
    """Return the metrics of cost.

    Args:
        settled: A report of settled amounts only, since the ledger began: counters never go down.
        current: A report as of now, for the gauges.
    """
    tenant_lines = [line for line in settled.lines if line.bearer == TENANT]
    by_tenant = ("model", "tenant", "kind")
    return [
        Family(
            "penstock_cost_usd_total",
            "Dollars of replica time used by requests, by kind of token",
            "counter",
            by_tenant,
            tuple(((line.model, line.name, line.kind), line.usd) for line in tenant_lines),
        ),
        Family(
            "penstock_cost_tokens_total",
            "Tokens of requests that did not fail; kind prompt means not found in the prefix cache",
            "counter",
            by_tenant,
            tuple(((line.model, line.name, line.kind), float(line.tokens)) for line in tenant_lines),
        ),
        _by_cause("penstock_idle_usd_total", "Dollars of replicas that served and had no request", settled, "idle"),
        _by_cause("penstock_overhead_usd_total", "Dollars of starts and of requests that failed", settled, "overhead"),
        _single("penstock_paid_usd_total", "Dollars of replica time by the meter", "counter", settled.paid_usd),
        Family(
            "penstock_cost_faults_total",
            "Records that could not be counted as they are",
            "counter",
            ("reason",),
            # Not a counter of the ledger: a replica's first event makes its orphans countable.
            tuple(((reason,), float(count)) for reason, count in settled.faults.items() if reason != "orphaned"),
        ),
        Family(
            "penstock_usd_per_million_tokens",
            "Dollars per million tokens since the ledger began; blended_allocated counts idle and overhead in",
            "gauge",
            by_tenant,
            tuple(_rates(current)),
        ),
        _single("penstock_cost_pending_usd", "Dollars of requests under way", "gauge", current.pending_usd),
        _single(
            "penstock_cost_unattributed_usd",
            "Dollars paid less tenants, idle, overhead and pending",
            "gauge",
            current.unattributed_usd,
        ),
        _single("penstock_cost_drift_ratio", "Unattributed over paid", "gauge", current.drift_ratio or 0.0),
    ]


class CostCollector:
    """A `prometheus_client` collector: register it, and every scrape reads the newest reports.

    Args:
        reports: Returns the newest (settled, current) reports, cheaply: a scrape waits for it.
    """

    def __init__(self, reports: Callable[[], tuple[CostReport, CostReport] | None]) -> None:
        self._reports = reports

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering does not ask for a report."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of the newest reports; none before there are any."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415 - an extra

        reports = self._reports()
        for family in cost_families(*reports) if reports else ():
            kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
            metric = kind(family.name, family.help, labels=family.labels)
            for labels, value in family.samples:
                metric.add_metric(labels, value)
            yield metric


def _single(name: str, text: str, kind: Literal["counter", "gauge"], value: float) -> Family:
    return Family(name, text, kind, (), (((), value),))


def _by_cause(name: str, text: str, report: CostReport, bearer: str) -> Family:
    samples = tuple(((line.model, line.name), line.usd) for line in report.lines if line.bearer == bearer)
    return Family(name, text, "counter", ("model", "cause"), samples)


def _rates(report: CostReport) -> Iterable[tuple[tuple[str, ...], float]]:
    """Yield rates by model and tenant, by model (empty tenant) and by tenant (empty model)."""
    for line in report.lines:
        if line.bearer == TENANT and line.tokens:
            yield (line.model, line.name, line.kind), line.usd * 1e6 / line.tokens
    accounts: list[tuple[str, str, PerMillionTokens]] = [
        *((model, "", account.per_million_tokens) for model, account in report.by_model.items()),
        *(("", tenant, account.per_million_tokens) for tenant, account in report.by_tenant.items()),
    ]
    for model, tenant, rates in accounts:
        for kind, value in msgspec.structs.asdict(rates).items():
            if value is not None:
                yield (model, tenant, kind), value
