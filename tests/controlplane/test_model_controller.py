"""Models on a real API server: finalizer, status as kubectl prints it, scale, hand edits, deletion."""

import asyncio
import contextlib
import dataclasses
import json
import subprocess
import time

import pytest

from penstock.api.crd import CRD_KINDS, custom_resource_definition
from penstock.scaling.snapshot import ReplicaPhase
from penstock_kube.client import KubeClient
from penstock_kube.config import Access
from penstock_kube.errors import NotFoundError
from penstock_kube.events import EventRecorder
from penstock_kube.resources import EVENTS, MODELS, Key
from penstock_operator.model.controller import ModelController
from penstock_operator.model.plan import FINALIZER
from penstock_operator.part import mirror
from penstock_operator.typed import TypedWorld
from penstock_operator.world import Mirror, World
from tests.controlplane.test_crds import install
from tests.support import binaries
from tests.unit.operator.model.views import STEADY, condition, replica, view

pytestmark = [pytest.mark.anyio, pytest.mark.controlplane]

NAMESPACE = "model-controller"
BOUNDS = {"minReplicas": 1, "maxReplicas": 4}


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def api(plane):
    for kind in CRD_KINDS:
        install(plane, custom_resource_definition(kind))
    plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    return plane


class Counted:
    """Counts writes of Models."""

    def __init__(self):
        self.writes = []

    def called(self, verb, plural, code, seconds):
        if plural == "models" and verb not in ("get", "list", "watch"):
            self.writes.append(verb)


class Bench:
    """The Model controller beside a pool that a test plays."""

    def __init__(self, client, counted):
        self.client, self.counted = client, counted
        unused = {field.name: Mirror(MODELS, ()) for field in dataclasses.fields(World) if field.name[0] != "_"}
        self.world = World(**(unused | {"models": mirror(client, MODELS, [NAMESPACE])}))
        recorder = EventRecorder(client, component="penstock-operator", instance="test", interval_s=0.1)
        models = TypedWorld.of(self.world).models
        self.model = ModelController(client, self.world, recorder, models, status_period_s=1.0)
        self.work = [recorder.run, self.model.controller.run, *(each.run for each in self.world.models.reflectors)]

    async def create(self, name, **spec):
        body = {"source": "hf://a/b", "accelerator": "nvidia-h100:1", **spec}
        await self.client.create(MODELS, {"metadata": {"namespace": NAMESPACE, "name": name}, "spec": body})
        self.counted.writes.clear()
        return Key(NAMESPACE, name)

    def show(self, key, *args, **fields):
        self.world.show(key, view(*args, **{"name": key.name, "namespace": key.namespace, **fields}))

    async def get(self, key):
        return await self.client.get(MODELS, *key)

    async def until(self, key, check, within_s=10.0):
        """Return the Model once it is as wanted."""
        deadline_s = time.monotonic() + within_s
        while True:
            obj = await self.get(key)
            if check(obj):
                return obj
            assert time.monotonic() < deadline_s, json.dumps(obj, indent=1)
            await asyncio.sleep(0.05)

    async def until_gone(self, key, within_s=10.0):
        deadline_s = time.monotonic() + within_s
        while await self.is_there(key):
            assert time.monotonic() < deadline_s, f"{key} is still there"
            await asyncio.sleep(0.05)

    async def is_there(self, key):
        try:
            await self.get(key)
        except NotFoundError:
            return False
        return True


@pytest.fixture
async def bench(api):
    counted = Counted()
    async with KubeClient(Access(str(api.kubeconfig())), field_manager="penstock-operator", observer=counted) as client:
        bench = Bench(client, counted)
        tasks = [asyncio.create_task(work()) for work in bench.work]
        yield bench
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)


def kubectl(api, *words):
    command = [str(binaries.find("kubectl")), "--kubeconfig", str(api.kubeconfig()), "-n", NAMESPACE, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def has_finalizer(obj):
    return FINALIZER in obj["metadata"].get("finalizers", [])


def reason(obj, kind):
    return next((c["reason"] for c in (obj.get("status") or {}).get("conditions", []) if c["type"] == kind), None)


async def test_a_model_that_comes_up_costs_three_writes(bench):
    key = await bench.create("upward")
    await bench.until(key, has_finalizer)
    starting = (condition("Ready", False, "Starting"), condition("Progressing", True, "Deploying"))
    bench.show(key, 1, 0, conditions=starting)
    await bench.until(key, lambda obj: reason(obj, "Ready") == "Starting")
    bench.show(key, 1, 1)
    await bench.until(key, lambda obj: reason(obj, "Ready") == "ReplicasReady")
    await asyncio.sleep(1.5)  # a write that is one too many would come with the next period
    assert len(bench.counted.writes) == 3, bench.counted.writes


async def test_kubectl_shows_what_the_pool_saw(bench, api):
    key = await bench.create("shown", replicas=2, scaling=BOUNDS)
    bench.show(
        key,
        2,
        2,
        kv_usage=0.71,
        queue=3,
        ttft_p95_s=0.312,
        usd_per_million_tokens=0.4172,
        idle_share=0.12,
        why="KVBound",
    )
    await bench.until(key, lambda obj: "status" in obj)
    header, row = kubectl(api, "get", "models", "shown").splitlines()
    assert header.split() == ["NAME", "READY", "KV%", "QUEUE", "P95-TTFT", "$/MTOK", "IDLE%", "WHY", "AGE"]
    assert row.split()[:8] == ["shown", "2/2", "71", "3", "310ms", "0.42", "12", "KVBound"]
    scale = json.loads(kubectl(api, "get", "--raw", f"{MODELS.path(NAMESPACE, 'shown')}/scale"))
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"] == {"replicas": 2, "selector": "penstock.dev/model=shown"}


async def test_the_brains_target_is_written_and_a_hand_scale_is_not_fought(bench, api):
    key = await bench.create("scaled", scaling=BOUNDS)
    bench.show(key, 3, 1)
    obj = await bench.until(key, lambda obj: obj["spec"]["replicas"] == 3)
    assert bench.world.scaled(key) == 3
    bench.show(key, 3, 1, generation=obj["metadata"]["generation"])
    kubectl(api, "scale", "model", "scaled", "--replicas", "2")
    bench.show(key, 3, 2, generation=obj["metadata"]["generation"])  # the pool has not seen it yet
    await asyncio.sleep(0.5)
    obj = await bench.get(key)
    assert obj["spec"]["replicas"] == 2
    bench.show(key, 2, 2, generation=obj["metadata"]["generation"])  # now it has, and made it its own
    await bench.until(key, lambda obj: obj["status"]["ready"] == "2/2")
    assert (await bench.get(key))["spec"]["replicas"] == 2


async def test_bounds_may_be_narrowed_below_what_the_brain_has_written(bench, api):
    key = await bench.create("narrowed", scaling=BOUNDS)
    bench.show(key, 4, 1)
    await bench.until(key, lambda obj: obj["spec"]["replicas"] == 4)
    kubectl(api, "patch", "model", "narrowed", "--type=merge", "-p", '{"spec":{"scaling":{"maxReplicas":2}}}')
    obj = await bench.get(key)
    typed = bench.model._typed.of(obj)
    assert typed.spec.replicas == 2
    bench.show(key, 2, 2, generation=obj["metadata"]["generation"])
    await bench.until(key, lambda obj: obj["spec"]["replicas"] == 2)


async def test_hand_edits_of_the_status_are_reverted(bench, api):
    key = await bench.create("forged")
    bench.show(key)
    await bench.until(key, lambda obj: reason(obj, "Ready") == "ReplicasReady")
    kubectl(api, "patch", "model", "forged", "--subresource=status", "--type=merge", "-p", '{"status":{"ready":"9/9"}}')
    await bench.until(key, lambda obj: obj["status"]["ready"] == "1/1")


async def test_a_deleted_model_stays_until_nothing_is_left_of_it(bench, api):
    key = await bench.create("drained", scaling=BOUNDS)
    bench.show(key, 3, 1)
    await bench.until(key, has_finalizer)
    kubectl(api, "delete", "model", "drained", "--wait=false")
    draining = tuple(replica(f"r{number}", ReplicaPhase.DRAINING) for number in range(2))
    bench.show(key, 0, 0, replicas=draining, conditions=(condition("Progressing", True, "Draining"),))
    obj = await bench.until(key, lambda obj: reason(obj, "Progressing") == "Draining")
    assert obj["metadata"]["deletionTimestamp"]
    assert obj["status"]["replicas"] == 2
    bench.world.forget(key)
    await bench.until_gone(key)


async def test_a_model_made_anew_does_not_get_the_status_of_the_old_one(bench):
    key = await bench.create("again")
    bench.show(key, 1, 1)
    await bench.until(key, lambda obj: "status" in obj)
    bench.world.forget(key)
    await bench.client.delete(MODELS, *key)
    await bench.until_gone(key)
    await bench.create("again")
    obj = await bench.until(key, has_finalizer)
    assert "status" not in obj


async def test_failures_and_decisions_become_events(bench):
    key = await bench.create("told", scaling=BOUNDS)
    bench.show(key, 1, 1)
    await bench.until(key, lambda obj: "status" in obj)
    decision = {
        "target_after": 2,
        "reason": "KV at 93 % of 2 replicas",
        "usd_per_hour_before": "2.99",
        "usd_per_hour_after": "5.98",
    }
    broken = (*STEADY[:3], condition("Degraded", True, "EngineDied", "replica r0 died; Serve starts another"))
    bench.show(key, 2, 1, decision=decision, conditions=broken)
    told = {}
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s and not {"ScaledUp", "EngineDied"} <= told.keys():
        listing = await bench.client.list(EVENTS, NAMESPACE, field_selector="involvedObject.name=told")
        told = {item["reason"]: item for item in listing.items}
        await asyncio.sleep(0.05)
    assert told["ScaledUp"]["message"] == "1 -> 2 replicas: KV at 93 % of 2 replicas (2.99 -> 5.98 $/h)"
    assert told["EngineDied"]["type"] == "Warning"
