"""What the operator knows of Models, as Prometheus metrics read when asked for. Copies that stand by know nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from penstock_kube.lease import LeaderElector
from penstock_operator.world import World

_OF_MODEL: Final = ("namespace", "model")


class ModelCollector(Collector):
    """Replicas, conditions and load of every Model, and whether this copy leads."""

    def __init__(self, world: World, elector: LeaderElector) -> None:
        """Read both at every scrape."""
        self._world = world
        self._elector = elector

    def describe(self) -> Iterable[Metric]:
        """Nothing is declared ahead of a scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the current values."""
        leading = self._elector.is_leader
        yield GaugeMetricFamily("penstock_operator_leading", "1 in the copy that leads.", value=leading)
        replicas = GaugeMetricFamily("penstock_replicas", "Replicas by state.", labels=(*_OF_MODEL, "state"))
        target = GaugeMetricFamily("penstock_replicas_target", "Replicas wanted.", labels=_OF_MODEL)
        condition = GaugeMetricFamily(
            "penstock_condition", "1 where the condition holds.", labels=(*_OF_MODEL, "type", "reason")
        )
        usage = GaugeMetricFamily(
            "penstock_kv_usage_ratio", "KV cache in use, of the fullest ready replica.", labels=_OF_MODEL
        )
        queue = GaugeMetricFamily("penstock_queue_requests", "Requests that wait, anywhere.", labels=_OF_MODEL)
        paid = GaugeMetricFamily("penstock_usd_per_hour", "Dollars an hour of all replicas now.", labels=_OF_MODEL)
        for view in self._world.views() if leading else ():
            of = (view.namespace, view.name)
            target.add_metric(of, view.target)
            for state, count in (("Ready", view.ready), ("Starting", view.starting), ("Draining", view.draining)):
                replicas.add_metric((*of, state), count)
            for said in view.conditions:
                condition.add_metric((*of, said.type.value, said.reason), float(bool(said.status)))
            if view.kv_usage is not None:
                usage.add_metric(of, view.kv_usage)
            queue.add_metric(of, view.queue)
            paid.add_metric(of, view.usd_per_hour)
        yield from (replicas, target, condition, usage, queue, paid)
