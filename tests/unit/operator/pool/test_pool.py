"""A pool's looks where no Ray answers: what people wrote counts, and what can never answer holds nothing up."""

import datetime as dt

import pytest

from penstock.cost.spool import SpoolWriter
from penstock_kube.errors import UnreachableError
from penstock_kube.resources import (
    ACCELERATOR_CLASSES,
    ENDPOINT_SLICES,
    MODELS,
    PODS,
    RAY_CLUSTERS,
    ROUTES,
    TENANTS,
    Key,
)
from penstock_operator.pool.controller import PoolController
from penstock_operator.pool.names import MANAGED
from penstock_operator.route.names import NameBook
from penstock_operator.settings import Settings
from penstock_operator.typed import TypedWorld
from penstock_operator.world import World
from tests.unit.operator.objects import HandMirror, stored
from tests.unit.operator.pool.makers import NAMESPACE

pytestmark = pytest.mark.anyio

LLAMA = Key(NAMESPACE, "llama")
POOL = Key("", NAMESPACE)
UP = {"type": "HeadPodReady", "status": "True"}
DOWN = {"type": "HeadPodReady", "status": "False"}
PROVISIONED = {"type": "RayClusterProvisioned", "status": "True"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Kube:
    """An API server that takes writes, which no mirror is told of, and lets nothing be read."""

    def __init__(self):
        self.deleted = []

    async def apply(self, kind, obj):
        return {**obj, "metadata": {**obj["metadata"], "uid": "made", "resourceVersion": "1"}}

    async def get(self, kind, namespace, name):
        raise UnreachableError("away")

    async def delete(self, kind, namespace, name, uid=None):
        self.deleted.append(name)


class Bench:
    """A pool controller, with mirrors and a clock that a test moves by hand."""

    def __init__(self, spool):
        self.now_s = 1_800_000_000.0
        self.kube = Kube()
        self.models, self.clusters = HandMirror(MODELS), HandMirror(RAY_CLUSTERS)
        self.world = World(
            models=self.models,
            classes=HandMirror(ACCELERATOR_CLASSES),
            routes=HandMirror(ROUTES),
            tenants=HandMirror(TENANTS),
            ray_clusters=self.clusters,
            pods=HandMirror(PODS),
            gateways=HandMirror(ENDPOINT_SLICES),
            slices=HandMirror(ENDPOINT_SLICES),
        )
        typed = TypedWorld.of(self.world)
        self.pools = PoolController(
            self.kube,
            self.world,
            typed=typed,
            names=NameBook(typed.models, typed.routes),
            settings=Settings(watch_namespaces=(NAMESPACE,)),
            spool=spool,
            clock=lambda: self.now_s,
        )

    def model(self, replicas=2, **metadata):
        spec = {"source": "hf://a/b", "accelerator": "nvidia-h100:1", "replicas": replicas}
        scaling = {"mode": "Pressure", "minReplicas": 1, "maxReplicas": 8}
        self.models.put(stored("Model", NAMESPACE, "llama", {**spec, "scaling": scaling}, **metadata))

    def cluster(self, *conditions, name="penstock-old"):
        metadata = {"namespace": NAMESPACE, "name": name, "labels": dict(MANAGED)}
        self.clusters.put({"metadata": metadata, "spec": {}, "status": {"conditions": list(conditions)}})

    async def look(self):
        self.now_s += 1.0
        await self.pools.reconcile(POOL)


@pytest.fixture
async def bench(tmp_path):
    with SpoolWriter(tmp_path, "operator") as spool:
        bench = Bench(spool)
        yield bench
        await bench.pools.close()


async def test_who_goes_back_to_the_number_that_we_wrote_last_means_it(bench):
    bench.model(replicas=2)
    await bench.look()
    bench.world.note_scaled(LLAMA, 3)
    for wish in (3, 5, 3):
        bench.model(replicas=wish)
        await bench.look()
    assert bench.world.view(LLAMA).target == 3


async def test_a_cluster_whose_head_never_answered_is_deleted_and_holds_no_model_up(bench):
    bench.model()
    bench.cluster(DOWN)
    await bench.look()
    await bench.look()
    assert bench.kube.deleted == ["penstock-old"]


async def test_a_cluster_whose_head_is_lost_is_kept_since_replicas_may_run_there(bench):
    bench.model()
    bench.cluster(DOWN, PROVISIONED)
    await bench.look()
    await bench.look()
    assert bench.kube.deleted == []


async def test_a_head_that_stays_away_does_not_hold_a_deleted_model_for_ever(bench):
    bench.model()
    bench.cluster(DOWN, PROVISIONED)
    await bench.look()
    bench.model(deletionTimestamp=dt.datetime.fromtimestamp(bench.now_s, dt.UTC).isoformat())
    await bench.look()
    assert not bench.world.is_gone(LLAMA)
    bench.now_s += 900
    await bench.look()
    assert bench.world.is_gone(LLAMA)


async def test_nothing_is_told_of_a_model_whose_object_is_gone(bench):
    bench.model()
    await bench.look()
    bench.models.remove(*LLAMA)
    bench.world.let_go(LLAMA)
    await bench.look()
    assert bench.world.view(LLAMA) is None
