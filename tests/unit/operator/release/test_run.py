"""What happens before an uninstall, whatever is there already and whoever stands in the way."""

import copy

import pytest

from penstock_kube.client import Listing
from penstock_kube.errors import ConflictError, ForbiddenError, NotFoundError
from penstock_kube.resources import DAEMON_SETS, DEPLOYMENTS, LEASES, MODELS, PERSISTENT_VOLUME_CLAIMS, RAY_CLUSTERS
from penstock_operator.model.plan import FINALIZER
from penstock_operator.release.run import PATIENCE_S, release
from penstock_operator.settings import Settings
from tests.unit.operator.objects import model

pytestmark = pytest.mark.anyio
SETTINGS = Settings(namespace="home", watch_namespaces=("a",))


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Clock:
    """Time goes on while somebody waits for it."""

    def __init__(self):
        self.time_s = 0.0

    def monotonic(self):
        return self.time_s

    async def sleep(self, seconds):
        self.time_s += seconds


def selects(requirement, labels):
    key, equals, value = requirement.partition("=")
    return labels.get(key) == value if equals else key in labels


class Cluster:
    """Objects by kind; what a test forbids is refused."""

    def __init__(self, clock):
        self.clock = clock
        self.objects = {}
        self.forbidden = set()
        self.conflicts = 0
        self.renews = False
        self.puts_back = False
        self.version = 0

    def add(self, kind, obj):
        self.version += 1
        obj = copy.deepcopy(obj)
        obj["metadata"]["resourceVersion"] = str(self.version)
        self.objects.setdefault(kind, []).append(obj)
        return obj

    def check(self, kind):
        if kind in self.forbidden:
            raise ForbiddenError(403, "Forbidden", f"no right to {kind.plural}")

    async def list(self, kind, namespace, *, label_selector=None):
        self.check(kind)
        if kind not in self.objects:
            raise NotFoundError(404, "NotFound", "no such kind")
        here = [
            obj
            for obj in self.objects[kind]
            if namespace in ("", obj["metadata"].get("namespace"))
            and all(
                selects(part, obj["metadata"].get("labels", {})) for part in (label_selector or "").split(",") if part
            )
        ]
        if self.puts_back and kind is MODELS:
            for obj in here:
                obj["metadata"]["finalizers"] = [FINALIZER]
        return Listing(copy.deepcopy(here), "1")

    async def get(self, kind, namespace, name):
        self.check(kind)
        for obj in self.objects.get(kind, ()):
            if (obj["metadata"]["namespace"], obj["metadata"]["name"]) == (namespace, name):
                if kind is LEASES and self.renews:
                    self.version += 1
                    obj["metadata"]["resourceVersion"] = str(self.version)
                return copy.deepcopy(obj)
        raise NotFoundError(404, "NotFound", name)

    async def merge_patch(self, kind, namespace, name, patch, *, subresource=""):
        self.check(kind)
        (obj,) = (each for each in self.objects[kind] if each["metadata"]["name"] == name)
        if kind is MODELS and self.conflicts:
            self.conflicts -= 1
            raise ConflictError(409, "Conflict", "changed")
        obj["metadata"] |= patch.get("metadata", {})
        obj["spec"] |= patch.get("spec", {})
        return obj

    async def delete(self, kind, namespace, name):
        if ("delete", kind) in self.forbidden:
            raise ForbiddenError(403, "Forbidden", f"no right to delete {kind.plural}")
        self.objects[kind] = [obj for obj in self.objects[kind] if obj["metadata"]["name"] != name]


@pytest.fixture
def cluster():
    return Cluster(Clock())


def held(name):
    return model("a", name, finalizers=[FINALIZER])


def lease(holder="leader"):
    return {
        "metadata": {"namespace": "home", "name": "penstock-operator"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15},
    }


def pull(name):
    labels = {"app.kubernetes.io/managed-by": "penstock", "penstock.dev/pulls": "0f"}
    return {"metadata": {"namespace": "home", "name": name, "labels": labels}}


async def run(cluster, **options):
    said = []
    done = await release(cluster, SETTINGS, cluster.clock, said.append, **options)
    return done, said


async def test_where_nothing_is_there_nothing_is_to_do(cluster):
    done, said = await run(cluster)
    assert done
    assert "no RayCluster runs" in said
    assert cluster.clock.time_s == 0


async def test_models_go_once_the_leader_has_let_its_lease_run_out(cluster):
    cluster.add(MODELS, held("one"))
    cluster.add(LEASES, lease())
    done, said = await run(cluster)
    assert done
    assert cluster.objects[MODELS][0]["metadata"]["finalizers"] == []
    assert said[0] == "let 1 Model go: a/one"
    assert cluster.clock.time_s >= 15


async def test_a_model_that_changed_meanwhile_is_read_anew(cluster):
    cluster.add(MODELS, held("one"))
    cluster.conflicts = 2
    done, _ = await run(cluster)
    assert done
    assert cluster.objects[MODELS][0]["metadata"]["finalizers"] == []


async def test_a_leader_that_does_not_go_is_named_and_so_are_models_that_it_holds_again(cluster):
    cluster.add(MODELS, held("one"))
    cluster.add(LEASES, lease())
    cluster.forbidden.add(DEPLOYMENTS)
    cluster.renews = cluster.puts_back = True
    done, said = await run(cluster)
    assert not done
    assert said[0] == "Deployment home/penstock-operator could not be scaled to 0: no right to deployments"
    assert "leader still leads: end it, or Models are held again" in said
    assert any(line.startswith("Model a/one is still held: an operator runs") for line in said)
    assert cluster.clock.time_s < 15 + PATIENCE_S + 5


async def test_what_keeps_running_is_named_with_how_to_end_it(cluster):
    metadata = {"namespace": "a", "name": "penstock-0f", "labels": {"app.kubernetes.io/managed-by": "penstock"}}
    cluster.add(RAY_CLUSTERS, {"metadata": metadata})
    cluster.add(MODELS, model("a", "one"))
    labels = {"app.kubernetes.io/part-of": "penstock"}
    cluster.add(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"namespace": "a", "name": "ledger", "labels": labels}})
    cluster.add(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"namespace": "a", "name": "somebody-elses"}})
    _, said = await run(cluster)
    assert "still running, and paid for: 1 RayCluster. To end that:" in said
    assert "  kubectl -n a delete raycluster penstock-0f" in said
    assert "kept: 1 PersistentVolumeClaim: a/ledger" in said
    assert "kept with the definitions, and served again after the next install: 1 Model" in said


async def test_what_may_not_be_looked_at_is_said_and_holds_nothing_up(cluster):
    cluster.forbidden |= {RAY_CLUSTERS, PERSISTENT_VOLUME_CLAIMS}
    done, said = await run(cluster)
    assert done
    assert "RayClusters could not be looked at: kubectl get rayclusters -A" in said
    assert "PersistentVolumeClaims were not looked at: kubectl get pvc -A" in said


async def test_image_pulls_end_and_other_daemonsets_stay(cluster):
    cluster.add(DAEMON_SETS, pull("penstock-pull-h100"))
    cluster.add(DAEMON_SETS, {"metadata": {"namespace": "home", "name": "somebody-elses"}})
    _, said = await run(cluster)
    assert "deleted 1 DaemonSet of image pulls: home/penstock-pull-h100" in said
    assert [obj["metadata"]["name"] for obj in cluster.objects[DAEMON_SETS]] == ["somebody-elses"]


async def test_image_pulls_that_may_not_be_ended_are_named_with_how_to(cluster):
    cluster.add(DAEMON_SETS, pull("penstock-pull-h100"))
    cluster.forbidden.add(("delete", DAEMON_SETS))
    done, said = await run(cluster)
    assert done
    assert "still there: a DaemonSet of image pulls: kubectl -n home delete daemonset penstock-pull-h100" in said


async def test_who_may_not_read_models_fails(cluster):
    cluster.forbidden.add(MODELS)
    with pytest.raises(ForbiddenError):
        await run(cluster)


async def test_a_dry_run_changes_nothing_and_waits_for_nobody(cluster):
    cluster.add(MODELS, held("one"))
    cluster.add(LEASES, lease())
    cluster.add(DAEMON_SETS, pull("penstock-pull-h100"))
    before = copy.deepcopy(cluster.objects)
    done, said = await run(cluster, dry_run=True)
    assert done
    assert said[:2] == ["would let 1 Model go: a/one", "would delete 1 DaemonSet: home/penstock-pull-h100"]
    assert (cluster.objects, cluster.clock.time_s) == (before, 0)
