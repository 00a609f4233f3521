"""Repeats are one event with a count, written seldom; trouble never reaches who noted it."""

import asyncio

import pytest

from penstock_kube.errors import NotFoundError, ServerError
from penstock_kube.events import EventRecorder
from tests.unit.kube.fake_clock import FakeClock, settle

pytestmark = pytest.mark.anyio

MODEL = {
    "apiVersion": "penstock.dev/v1alpha1",
    "kind": "Model",
    "metadata": {"namespace": "ns", "name": "llama", "uid": "u1"},
}


class EventServer:
    """Keeps events by name."""

    def __init__(self):
        self.events = {}
        self.writes = 0
        self.broken = False

    async def apply(self, kind, obj):
        self._count()
        self.events[obj["metadata"]["name"]] = obj

    async def merge_patch(self, kind, namespace, name, patch):
        self._count()
        if name not in self.events:
            raise NotFoundError(404, "NotFound", "expired")
        self.events[name] |= patch

    def _count(self):
        self.writes += 1
        if self.broken:
            raise ServerError(500, "InternalError", "etcd is away")


@pytest.fixture
async def parts():
    server, clock = EventServer(), FakeClock()
    recorder = EventRecorder(server, component="penstock-operator", instance="pod-1", clock=clock)
    task = asyncio.ensure_future(recorder.run())
    yield server, clock, recorder
    task.cancel()
    await settle()


async def test_repeats_are_counted_in_one_event(parts):
    server, clock, recorder = parts
    for _ in range(100):
        recorder.note(MODEL, "Warning", "DoesNotFit", "needs 40 GiB")
        await settle()
    assert server.writes == 1
    await clock.advance(31.0)
    assert server.writes == 2
    (event,) = server.events.values()
    assert event["count"] == 100
    assert event["involvedObject"]["name"] == "llama"
    assert event["type"] == "Warning"


async def test_other_reasons_and_messages_are_other_events(parts):
    server, _, recorder = parts
    recorder.note(MODEL, "Normal", "Scaled", "to 2")
    recorder.note(MODEL, "Normal", "Scaled", "to 3")
    recorder.note(MODEL, "Normal", "Drained", "to 3")
    await settle()
    assert len(server.events) == 3


async def test_a_series_that_repeats_does_not_hold_up_others(parts):
    server, _, recorder = parts
    recorder.note(MODEL, "Normal", "Scaled", "to 2")
    await settle()
    recorder.note(MODEL, "Normal", "Scaled", "to 2")
    recorder.note(MODEL, "Normal", "Drained", "one replica")
    await settle()
    assert {event["reason"] for event in server.events.values()} == {"Scaled", "Drained"}


async def test_an_event_that_expired_is_written_anew(parts):
    server, clock, recorder = parts
    recorder.note(MODEL, "Normal", "Scaled", "to 2")
    await settle()
    server.events.clear()
    recorder.note(MODEL, "Normal", "Scaled", "to 2")
    await clock.advance(31.0)
    (event,) = server.events.values()
    assert event["count"] == 2


async def test_trouble_is_counted_and_dropped(parts):
    server, _, recorder = parts
    server.broken = True
    recorder.note(MODEL, "Normal", "Scaled", "to 2")
    await settle()
    assert recorder.dropped == 1
    server.broken = False
    recorder.note(MODEL, "Normal", "Drained", "one replica")
    await settle()
    assert len(server.events) == 1


async def test_an_event_on_a_cluster_scoped_object_has_a_namespace(parts):
    server, _, recorder = parts
    cpu = {"apiVersion": "penstock.dev/v1alpha1", "kind": "AcceleratorClass", "metadata": {"name": "cpu"}}
    recorder.note(cpu, "Normal", "Applied", "from the catalog")
    await settle()
    (event,) = server.events.values()
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["involvedObject"]
