"""The ledger process's own metrics, read when asked for; those of cost are `penstock.cost.metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from penstock_operator.ledger.service import LedgerService
from penstock_usage.consumer import Consumer


class LedgerCollector(Collector):
    """What comes in, what it takes, and how far behind it is."""

    def __init__(self, service: LedgerService, consumer: Consumer) -> None:
        self._service = service
        self._consumer = consumer

    def describe(self) -> Iterable[Metric]:
        """Nothing is declared ahead of a scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the current values."""
        stream, books = self._consumer.state, self._service.state
        for name, text, count in (
            ("deliveries", "Deliveries read from the usage stream.", stream.deliveries),
            ("delivered_bytes", "Bytes of records in them.", stream.bytes),
            ("records", "New requests and replica steps committed.", stream.records),
            ("deliveries_repeated", "Deliveries that had been committed before.", stream.repeated),
            ("deliveries_ahead", "Deliveries that left a gap and were asked for again.", stream.gaps),
            ("entries_malformed", "Entries of the stream that no shipper wrote.", stream.malformed),
            ("writers_lost", "Writers taken for dead with what they had not sent.", books.writers_lost),
        ):
            yield CounterMetricFamily(f"penstock_ledger_{name}", text, value=count)
        for name, text, value in (
            ("stream_up", "1 while records can be taken from the usage stream.", float(stream.problem is None)),
            ("stream_entries", "Entries that wait in the usage stream.", stream.entries),
            ("writers", "Processes whose marks hold settling back.", books.writers),
            ("commit_seconds", "Seconds that the last deliveries took to commit.", books.commit_s),
            ("settle_seconds", "Seconds that the last settling and its reports took.", books.settle_s),
        ):
            yield GaugeMetricFamily(f"penstock_ledger_{name}", text, value=value)
