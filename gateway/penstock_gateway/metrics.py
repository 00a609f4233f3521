"""Prometheus metrics, read from plain counters when asked for: nothing on a request's way calls the client library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from penstock.routing.load import LATENCY_BUCKETS_S, ModelLoad
from penstock_gateway.discovery.source import ClusterReport

if TYPE_CHECKING:
    from penstock_gateway.gateway import Gateway

_MODEL_LABELS = ("model", "variant")


class GatewayCollector(Collector):
    """All metrics of one gateway process. Labels are models, variants and replicas: bounded by what is deployed."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def describe(self) -> Iterable[Metric]:
        """Nothing is declared ahead of a scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the current values."""
        loads = list(self._gateway.fleet.loads)
        yield from _model_metrics(loads)
        yield self._picks()
        yield from self._replica_metrics()
        yield from self._process_metrics()
        report = self._gateway.discovery.cluster()
        if report is not None:
            yield from _cluster_metrics(report)

    def _picks(self) -> Metric:
        picks = CounterMetricFamily(
            "penstock_gateway_picks", "Picks between several replicas, by what decided.", labels=("model", "reason")
        )
        for model, affinity in self._gateway.fleet.affinities.items():
            for reason, count in affinity.picks.items():
                picks.add_metric((model, reason.value), count)
        return picks

    def _replica_metrics(self) -> Iterator[Metric]:
        labels = ("model", "variant", "replica")
        ejected = GaugeMetricFamily("penstock_gateway_replica_ejected", "1 while a replica is ejected.", labels=labels)
        in_flight = GaugeMetricFamily(
            "penstock_gateway_replica_requests_in_flight", "Requests of this process at a replica.", labels=labels
        )
        ejections = CounterMetricFamily(
            "penstock_gateway_replica_ejections", "Times a replica was ejected.", labels=labels
        )
        for replica in self._gateway.fleet.replicas.values():
            values = (replica.replica.model, replica.replica.variant, replica.id)
            ejected.add_metric(values, replica.ejected)
            in_flight.add_metric(values, replica.in_flight)
            ejections.add_metric(values, replica.ejections)
        yield from (ejected, in_flight, ejections)

    def _process_metrics(self) -> Iterator[Metric]:
        gateway = self._gateway
        relay = gateway.relay
        answers = CounterMetricFamily("penstock_gateway_answers", "Answers on the data port.", labels=("status",))
        for status, count in list(relay.tally.answers.items()):
            answers.add_metric((str(status),), count)
        retries = CounterMetricFamily(
            "penstock_gateway_retries", "Requests taken away from a replica before it answered.", labels=("reason",)
        )
        for reason, count in list(relay.tally.retries.items()):
            retries.add_metric((reason,), count)
        yield from (answers, retries)
        yield CounterMetricFamily(
            "penstock_gateway_usage_records", "Usage records spooled for the ledger.", value=relay.meter.written
        )
        yield CounterMetricFamily(
            "penstock_gateway_usage_records_lost", "Usage records that no disk took.", value=relay.meter.lost
        )
        yield CounterMetricFamily(
            "penstock_gateway_snapshots_rejected",
            "Snapshot files, or objects in a cluster, that could not be read.",
            value=gateway.discovery.rejected,
        )
        yield GaugeMetricFamily(
            "penstock_gateway_snapshot_confirmed",
            "0 while the routing in use is remembered from before this process's start.",
            value=relay.confirmed,
        )
        yield GaugeMetricFamily(
            "penstock_gateway_snapshot_version",
            "Routing snapshot in use; -1 before the first.",
            value=gateway.fleet.snapshot.version,
        )
        yield GaugeMetricFamily(
            "penstock_gateway_client_connections", "Open connections on the data port.", value=len(gateway.connections)
        )
        yield GaugeMetricFamily(
            "penstock_gateway_draining", "1 while the process ends what it has.", value=relay.draining
        )


def _cluster_metrics(report: ClusterReport) -> Iterator[Metric]:
    silence = GaugeMetricFamily(
        "penstock_gateway_discovery_silence_seconds",
        "Since the API server last told something of a kind; about 60 is normal.",
        labels=("kind",),
    )
    for plural, silence_s in report.silence_s.items():
        silence.add_metric((plural,), silence_s)
    restarts = CounterMetricFamily(
        "penstock_gateway_discovery_watch_restarts", "Watches that ended, by why.", labels=("kind", "reason")
    )
    for (plural, reason), count in report.restarts.items():
        restarts.add_metric((plural, reason), count)
    skipped = CounterMetricFamily(
        "penstock_gateway_discovery_skipped", "Objects that could not be read.", labels=("kind",)
    )
    for plural, count in report.skipped.items():
        skipped.add_metric((plural,), count)
    yield from (silence, restarts, skipped)
    yield GaugeMetricFamily(
        "penstock_gateway_discovery_names_taken",
        "Names left out now, because another namespace has them.",
        value=report.taken,
    )


def _model_metrics(loads: Sequence[ModelLoad]) -> Iterator[Metric]:
    arrived = CounterMetricFamily("penstock_gateway_requests_arrived", "Requests for a known model.", labels=("model",))
    shed = CounterMetricFamily(
        "penstock_gateway_requests_shed",
        "Requests refused without being sent: no replica, or over a limit.",
        labels=("model",),
    )
    requests = CounterMetricFamily(
        "penstock_gateway_requests", "Requests that ended, by how.", labels=(*_MODEL_LABELS, "outcome")
    )
    in_flight = GaugeMetricFamily("penstock_gateway_requests_in_flight", "Requests at engines.", labels=_MODEL_LABELS)
    tokens = CounterMetricFamily(
        "penstock_gateway_tokens",
        "Tokens as engines counted them; cached ones are part of the prompt's.",
        labels=(*_MODEL_LABELS, "kind"),
    )
    first = HistogramMetricFamily(
        "penstock_gateway_time_to_first_token_seconds",
        "From a request's last byte to the first event of its stream.",
        labels=_MODEL_LABELS,
    )
    per_token = HistogramMetricFamily(
        "penstock_gateway_time_per_output_token_seconds",
        "Mean time between a stream's tokens, one observation a stream.",
        labels=_MODEL_LABELS,
    )
    for load in loads:
        if not load.variant:
            arrived.add_metric((load.model,), load.arrived)
            shed.add_metric((load.model,), load.shed)
        labels = (load.model, load.variant)
        for outcome in ("completed", "failed", "cancelled"):
            requests.add_metric((*labels, outcome), getattr(load, outcome))
        in_flight.add_metric(labels, load.in_flight)
        for kind in ("prompt", "cached", "completion"):
            tokens.add_metric((*labels, kind), getattr(load, f"{kind}_tokens"))
        first.add_metric(labels, _buckets(load.ttft_buckets), load.ttft_s_sum)
        per_token.add_metric(labels, _buckets(load.tpot_buckets), load.tpot_s_sum)
    yield from (arrived, shed, requests, in_flight, tokens, first, per_token)


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in LATENCY_BUCKETS_S), "+Inf"]
    return list(zip(bounds, map(float, accumulate(counts)), strict=True))
