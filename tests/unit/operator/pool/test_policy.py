"""Who may reach a pool's pods, and that nobody else's policy is touched."""

import copy

import pytest

from penstock_kube.resources import NETWORK_POLICIES, RAY_CLUSTERS, Key
from penstock_operator.pool.policy import is_in_force, policy_object
from penstock_operator.pool.policy_controller import PolicyController
from penstock_operator.settings import NetworkOptions, RayOptions, Settings
from tests.unit.operator.objects import HandMirror

pytestmark = pytest.mark.anyio

PROMETHEUS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
NETWORK = NetworkOptions(
    gateway_labels={"part": "gateway"}, operator_labels={"part": "operator"}, monitoring=(PROMETHEUS,)
)
MANAGED = {"app.kubernetes.io/managed-by": "penstock"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


def cluster(name="penstock-1", namespace="team", labels=MANAGED):
    return {"metadata": {"namespace": namespace, "name": name, "uid": f"uid-{name}", "labels": labels}, "spec": {}}


def wanted(*clusters, network=NETWORK):
    return policy_object("team", clusters or (cluster(),), "home", network)


def admitted(policy, port, peer):
    """Whether a rule admits a peer at a port."""
    return any(
        peer in rule["from"]
        and any(entry["port"] <= port <= entry.get("endPort", entry["port"]) for entry in rule.get("ports", ()))
        for rule in policy["spec"]["ingress"]
        if "ports" in rule
    )


def peer(part):
    home = {"matchLabels": {"kubernetes.io/metadata.name": "home"}}
    return {"namespaceSelector": home, "podSelector": {"matchLabels": {"part": part}}}


@pytest.mark.parametrize(
    ("who", "engine", "dashboard", "metrics"),
    [
        (peer("gateway"), True, False, False),
        (peer("operator"), True, True, False),
        (NETWORK.ray_operators[0], False, True, False),
        (PROMETHEUS, False, False, True),
        (peer("somebody"), False, False, False),
    ],
    ids=["gateway", "operator", "kuberay", "prometheus", "somebody"],
)
def test_each_may_reach_what_it_needs(who, engine, dashboard, metrics):
    policy = wanted()
    assert (admitted(policy, 30000, who), admitted(policy, 31000, who)) == (engine, engine)
    assert admitted(policy, 8265, who) == dashboard
    assert admitted(policy, 8080, who) == metrics
    assert not admitted(policy, 6379, who)


def test_only_the_pools_own_pods_reach_every_port():
    policy = wanted()
    [open_rule] = [rule for rule in policy["spec"]["ingress"] if "ports" not in rule]
    assert open_rule["from"] == [{"podSelector": policy["spec"]["podSelector"]}]
    assert policy["spec"]["podSelector"]["matchLabels"] == MANAGED


def test_it_goes_with_the_last_cluster():
    owners = wanted(cluster("penstock-2"), cluster("penstock-1"))["metadata"]["ownerReferences"]
    assert [owner["uid"] for owner in owners] == ["uid-penstock-1", "uid-penstock-2"]


def test_what_somebody_adds_is_not_what_is_wanted():
    policy = wanted()
    assert is_in_force(policy, policy)
    wider = copy.deepcopy(policy)
    wider["spec"]["ingress"][0]["from"][0]["namespaceSelector"] = {}
    assert not is_in_force(wider, policy)
    assert not is_in_force(None, policy)


@pytest.mark.parametrize("field", ["gateway_labels", "operator_labels"])
def test_labels_that_would_admit_every_pod_are_refused(field):
    with pytest.raises(ValueError, match="at least 1 item"):
        NetworkOptions(**{field: {}})


class Client:
    """Notes writes."""

    def __init__(self):
        self.applied, self.deleted = [], []

    async def apply(self, kind, obj):
        self.applied.append(obj)
        return {**obj, "metadata": {**obj["metadata"], "resourceVersion": "1", "uid": "new"}}

    async def delete(self, kind, namespace, name, uid=None):
        self.deleted.append((namespace, name))


class Stage:
    def __init__(self, *, on=True):
        self.client, self.clusters, self.policies = Client(), HandMirror(RAY_CLUSTERS), HandMirror(NETWORK_POLICIES)
        settings = Settings(namespace="home", ray=RayOptions(network_policy=on), network=NETWORK)
        self.controller = PolicyController(self.client, self.clusters, self.policies, settings=settings)

    async def look(self):
        await self.controller.reconcile(Key("", "team"))


async def test_one_write_for_a_cluster_and_none_after():
    stage = Stage()
    stage.clusters.put(cluster())
    await stage.look()
    await stage.look()
    [applied] = stage.client.applied
    stage.policies.put(applied)
    await stage.look()
    assert len(stage.client.applied) == 1


async def test_a_hand_edit_is_put_right():
    stage = Stage()
    stage.clusters.put(cluster())
    await stage.look()
    [applied] = stage.client.applied
    stage.policies.put({**applied, "spec": {**applied["spec"], "ingress": [{}]}})
    await stage.look()
    assert [each["spec"]["ingress"] for each in stage.client.applied] == [applied["spec"]["ingress"]] * 2


async def test_where_nobody_serves_nothing_is_written():
    stage = Stage()
    stage.clusters.put(cluster(labels={}))
    await stage.look()
    assert stage.client.applied == []


@pytest.mark.parametrize(("labels", "deleted"), [(MANAGED, [("team", "penstock-engines")]), ({}, [])])
async def test_turned_off_only_ours_goes(labels, deleted):
    stage = Stage(on=False)
    stage.clusters.put(cluster())
    stage.policies.put({"metadata": {"namespace": "team", "name": "penstock-engines", "labels": labels}, "spec": {}})
    await stage.look()
    assert (stage.client.applied, stage.client.deleted) == ([], deleted)
