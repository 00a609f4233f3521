"""What the runtime counts reads as it happened."""

from prometheus_client import CollectorRegistry

from penstock_operator.runtime.metrics import RuntimeMetrics
from penstock_operator.runtime.workqueue import WorkQueue


def test_what_happened_can_be_read():
    registry = CollectorRegistry()
    metrics = RuntimeMetrics(registry)
    queue = WorkQueue()
    metrics.follow_queue("model", queue.__len__, lambda: queue.delayed)
    queue.add("a")
    queue.add_after("b", 60.0)
    metrics.reconciled("model", "ok", 0.1)
    metrics.reconciled("model", "bug", 0.2)
    metrics.reconciled("model", "later", 0.2)
    metrics.watch_restarted("models", "gone")
    metrics.called("apply", "models", 200, 0.01)

    def value(name, **labels):
        return registry.get_sample_value(f"penstock_operator_{name}", labels)

    assert value("queue_depth", controller="model") == 1
    assert value("queue_delayed", controller="model") == 1
    assert value("reconcile_seconds_count", controller="model", outcome="ok") == 1
    assert value("reconcile_errors_total", controller="model", outcome="bug") == 1
    assert value("reconcile_errors_total", controller="model", outcome="later") is None
    assert value("watch_restarts_total", resource="models", reason="gone") == 1
    assert value("api_call_seconds_count", verb="apply", resource="models", code="200") == 1
