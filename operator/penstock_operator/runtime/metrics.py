"""The runtime's own metrics, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_RECONCILE_BUCKETS_S = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
_CALL_BUCKETS_S = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0)


class RuntimeMetrics:
    """Counts what clients, reflectors and controllers report."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics.

        Args:
            registry: where they are read; one set to a registry.
        """
        self._depth = Gauge(
            "penstock_operator_queue_depth", "Keys that wait for a worker.", ["controller"], registry=registry
        )
        self._delayed = Gauge(
            "penstock_operator_queue_delayed", "Keys that wait for their time.", ["controller"], registry=registry
        )
        self._reconciles = Histogram(
            "penstock_operator_reconcile_seconds",
            "Seconds that reconciles took, by outcome.",
            ["controller", "outcome"],
            buckets=_RECONCILE_BUCKETS_S,
            registry=registry,
        )
        self._errors = Counter(
            "penstock_operator_reconcile_errors",
            "Reconciles that failed, by outcome.",
            ["controller", "outcome"],
            registry=registry,
        )
        self._restarts = Counter(
            "penstock_operator_watch_restarts",
            "Watches that ended, by reason.",
            ["resource", "reason"],
            registry=registry,
        )
        self._calls = Histogram(
            "penstock_operator_api_call_seconds",
            "Seconds that calls of the Kubernetes API took; code 0 is no answer. Watches are counted when they end.",
            ["verb", "resource", "code"],
            buckets=_CALL_BUCKETS_S,
            registry=registry,
        )

    def follow_queue(self, controller: str, depth: Callable[[], int], delayed: Callable[[], int]) -> None:
        """Read a queue's length whenever metrics are asked for."""
        self._depth.labels(controller).set_function(lambda: float(depth()))
        self._delayed.labels(controller).set_function(lambda: float(delayed()))

    def called(self, verb: str, plural: str, code: int, seconds: float) -> None:
        """Note a call of the Kubernetes API."""
        self._calls.labels(verb, plural, str(code)).observe(seconds)

    def watch_restarted(self, plural: str, reason: str) -> None:
        """Note a watch that ended."""
        self._restarts.labels(plural, reason).inc()

    def reconciled(self, controller: str, outcome: str, seconds: float) -> None:
        """Note a reconcile."""
        self._reconciles.labels(controller, outcome).observe(seconds)
        if outcome not in ("ok", "later"):
            self._errors.labels(controller, outcome).inc()
