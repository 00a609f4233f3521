"""The operator's own Prometheus page, on loopback: replicas, targets, conditions, and what it all costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric

from penstock.control.status import PlatformStatus
from penstock.cost.metrics import CostCollector
from penstock.local.accounts import Accounts
from penstock.local.ports import LOOPBACK


class StatusCollector:
    """Reads the newest status at each scrape."""

    def __init__(self, status: Callable[[], PlatformStatus | None]) -> None:
        self._status = status

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering does not ask for a status."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges of every model."""
        status = self._status()
        replicas = GaugeMetricFamily("penstock_replicas", "Replicas by state", labels=("model", "state"))
        target = GaugeMetricFamily("penstock_replicas_target", "Replicas wanted", labels=("model",))
        condition = GaugeMetricFamily(
            "penstock_condition", "1 where the condition holds", labels=("model", "type", "reason")
        )
        for model in status.models if status else ():
            target.add_metric((model.name,), model.target)
            for state, count in (("Ready", model.ready), ("Starting", model.starting), ("Draining", model.draining)):
                replicas.add_metric((model.name, state), count)
            for said in model.conditions:
                condition.add_metric((model.name, said.type.value, said.reason), float(bool(said.status)))
        yield from (replicas, target, condition)


def serve_metrics(port: int, status: Callable[[], PlatformStatus | None], accounts: Accounts) -> Callable[[], None]:
    """Serve the page; return what ends it."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(status))
    registry.register(CostCollector(lambda: accounts.reports))
    server: WSGIServer
    server, thread = start_http_server(port, addr=LOOPBACK, registry=registry)

    def stop() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    return stop
