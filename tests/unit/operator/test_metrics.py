"""What Prometheus reads of Models: the leader's views, and nothing from a copy that stands by."""

from types import SimpleNamespace

from prometheus_client import CollectorRegistry

from penstock.control.status import Condition, ConditionType
from penstock_kube.resources import Key
from penstock_operator.metrics import ModelCollector
from penstock_operator.world import World
from tests.unit.operator.model.views import view

SAID = Condition(type=ConditionType.READY, status=True, reason="ReplicasReady", message="", since_s=0.0)


def read(*, leads):
    world = World(*([None] * 8))
    shown = view(
        namespace="chat", name="tiny", target=2, ready=1, starting=1, kv_usage=0.5, queue=7, conditions=(SAID,)
    )
    world.show(Key("chat", "tiny"), shown)
    registry = CollectorRegistry()
    registry.register(ModelCollector(world, SimpleNamespace(is_leader=leads)))
    return lambda name, **labels: registry.get_sample_value(name, labels)


def test_the_leader_tells_of_every_model():
    value = read(leads=True)
    of = {"namespace": "chat", "model": "tiny"}
    assert value("penstock_operator_leading") == 1
    assert value("penstock_replicas_target", **of) == 2
    assert [value("penstock_replicas", **of, state=state) for state in ("Ready", "Starting", "Draining")] == [1, 1, 0]
    assert value("penstock_condition", **of, type="Ready", reason="ReplicasReady") == 1
    assert value("penstock_kv_usage_ratio", **of) == 0.5
    assert value("penstock_queue_requests", **of) == 7


def test_a_copy_that_stands_by_tells_of_none():
    value = read(leads=False)
    assert value("penstock_operator_leading") == 0
    assert value("penstock_replicas_target", namespace="chat", model="tiny") is None
