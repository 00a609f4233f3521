"""A shipper's state as Prometheus metrics, read when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from penstock_usage.shipper import Shipper


class ShipperCollector(Collector):
    """Register it where the process's other metrics are."""

    def __init__(self, shipper: Shipper) -> None:
        self._shipper = shipper

    def describe(self) -> Iterable[Metric]:
        """Nothing is declared ahead of a scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the current values."""
        state = self._shipper.state
        yield GaugeMetricFamily("penstock_usage_spool_bytes", "Bytes of the spool's segments.", value=state.spool_bytes)
        if self._shipper.limit_bytes is not None:
            yield GaugeMetricFamily(
                "penstock_usage_spool_limit_bytes",
                "Bytes from which on the spool takes no record.",
                value=self._shipper.limit_bytes,
            )
        yield GaugeMetricFamily(
            "penstock_usage_waiting_bytes", "Bytes that the ledger has not committed.", value=state.waiting_bytes
        )
        yield GaugeMetricFamily(
            "penstock_usage_lag_seconds",
            "Age of the oldest record that is not known to be committed.",
            value=state.lag_s,
        )
        yield GaugeMetricFamily(
            "penstock_usage_stream_up", "1 while the usage stream can be used.", value=state.problem is None
        )
        yield CounterMetricFamily(
            "penstock_usage_records_shipped", "Lines added to the usage stream.", value=state.records_shipped
        )
        yield CounterMetricFamily(
            "penstock_usage_records_acknowledged",
            "Lines of this process that the ledger has committed.",
            value=state.records_acknowledged,
        )
        yield CounterMetricFamily(
            "penstock_usage_resends", "Times that the stream lost what was in it.", value=state.resent
        )
