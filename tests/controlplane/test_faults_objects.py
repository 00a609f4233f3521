"""Hands that edit what the operator owns, Ray that goes away, and bad Models among good ones."""

import base64

import pytest

from penstock_kube.resources import (
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    MODELS,
    PODS,
    RAY_CLUSTERS,
    ROUTES,
    SECRETS,
    TENANTS,
    Kind,
)
from tests.support.serve_api import Behaviour
from tests.support.stage import CLASS, cluster_key

pytestmark = pytest.mark.controlplane

QUOTAS = Kind("", "v1", "ResourceQuota", "resourcequotas")
SERVICE_ACCOUNTS = Kind("", "v1", "ServiceAccount", "serviceaccounts")


@pytest.fixture(autouse=True)
def sound(cluster):
    """No operator has ended or logged an error after any of these tests: bad objects are no faults of the process."""
    yield
    for operator in cluster.operators.values():
        assert operator.restarts == 0
        assert operator.bugs() == []


def good(space):
    """Return the name of a namespace's good Model: public names are unique over all of them."""
    return f"good-{space}"


def served(cluster, name):
    space = cluster.namespace(name)
    cluster.model(space, good(space))
    cluster.ready(space, good(space))
    cluster.until(lambda: cluster.endpoints(space))
    return space


def test_what_hands_write_into_owned_objects_is_set_right(cluster):
    space = served(cluster, "hands")
    [item] = cluster.all(ENDPOINT_SLICES, space)
    name, endpoints = item["metadata"]["name"], cluster.endpoints(space)
    wrong = [{**one, "conditions": {"ready": False}} for one in item["endpoints"]]
    cluster.patch(ENDPOINT_SLICES, space, name, {"endpoints": wrong})
    cluster.until(lambda: cluster.endpoints(space) == endpoints)
    cluster.delete(ENDPOINT_SLICES, space, name)
    cluster.until(lambda: cluster.endpoints(space) == endpoints)

    routing = cluster.routing(space)
    cluster.patch(CONFIG_MAPS, space, "penstock-routing", {"data": {"routing.json": "{}"}})
    cluster.until(lambda: cluster.routing(space) == routing)
    cluster.delete(CONFIG_MAPS, space, "penstock-routing")
    cluster.until(lambda: cluster.routing(space) == routing)

    ray = cluster.cluster(space)["metadata"]["name"]
    cluster.patch(RAY_CLUSTERS, space, ray, {"spec": {"rayVersion": "1.0.0"}})
    cluster.until(lambda: cluster.cluster(space)["spec"]["rayVersion"] != "1.0.0")

    cluster.patch(MODELS, space, good(space), {"metadata": {"finalizers": None}})
    cluster.until(lambda: cluster.get(MODELS, space, good(space))["metadata"].get("finalizers"))
    cluster.patch(MODELS, space, good(space), {"status": {"ready": "9/9", "readyReplicas": 9}}, "status")
    cluster.until(lambda: cluster.get(MODELS, space, good(space))["status"]["ready"] == "1/1")


def test_a_scale_by_hand_is_the_new_target(cluster):
    space = served(cluster, "scaled")
    cluster.patch(MODELS, space, good(space), {"spec": {"scaling": {"maxReplicas": 3}}})
    cluster.patch(MODELS, space, good(space), {"spec": {"replicas": 3}}, "scale")
    cluster.ready(space, good(space), 3)


def test_a_deleted_ray_cluster_is_made_anew_and_serves_again(cluster):
    space = served(cluster, "recreated")
    before, old = cluster.cluster(space)["metadata"], cluster.endpoints(space)
    cluster.delete(RAY_CLUSTERS, space, before["name"])
    cluster.until(lambda: cluster.cluster(space)["metadata"]["uid"] != before["uid"])
    cluster.until(lambda: cluster.endpoints(space) and not cluster.endpoints(space).keys() & old.keys())
    cluster.ready(space, good(space))


def test_a_lost_head_is_said_and_its_successor_is_filled_again(cluster):
    space, other = served(cluster, "headless"), served(cluster, "unharmed")
    key, old = cluster_key(cluster, space), cluster.endpoints(space)
    cluster.ray.lose_head(key)
    cluster.until(lambda: cluster.condition(MODELS, space, good(space), "Progressing")[1] == "ClusterNotReady")
    cluster.model(other, f"more-{other}")
    cluster.ready(other, f"more-{other}")
    cluster.ray.heal_head(key)
    cluster.until(lambda: cluster.endpoints(space) and not cluster.endpoints(space).keys() & old.keys())
    cluster.ready(space, good(space))


def test_a_serve_that_does_not_answer_keeps_nobody_else_waiting(cluster):
    space, other = served(cluster, "silent"), served(cluster, "talking")
    before = cluster.endpoints(space)
    cluster.serve.hang(space)
    cluster.until(lambda: cluster.condition(MODELS, space, good(space), "Degraded")[1] == "ServeUnreachable")
    assert cluster.condition(MODELS, space, good(space))[0] == "Unknown"
    assert cluster.endpoints(space) == before
    cluster.model(other, f"more-{other}")
    cluster.ready(other, f"more-{other}")
    cluster.serve.mend(space)
    cluster.ready(space, good(space))
    assert cluster.endpoints(space) == before


def test_a_rotated_key_reaches_gateways_as_another_hash(cluster):
    space = served(cluster, "rotated")

    def put(key):
        data = {"api-key": base64.b64encode(key).decode()}
        labels = {"labels": {"penstock.dev/api-keys": "true"}}
        cluster.apply(SECRETS, space, "keys", data=data)
        cluster.patch(SECRETS, space, "keys", {"metadata": labels})

    def hashes():
        [tenant] = cluster.routing(space)["tenants"]
        return str(tenant)

    put(b"sk-first-key")
    cluster.apply(
        TENANTS, space, "acme", spec={"keys": [{"name": "main", "secretRef": {"name": "keys", "key": "api-key"}}]}
    )
    cluster.until(lambda: cluster.condition(TENANTS, space, "acme")[0] == "True")
    first = cluster.until(hashes)
    assert "sk-first-key" not in first
    put(b"sk-second-key")
    cluster.until(lambda: hashes() != first)


BAD = {
    "missing-class": ({"accelerator": "nowhere:1"}, "UnknownAcceleratorClass", "kubectl get acceleratorclasses"),
    "too-large": (
        {"preset": "llama-3.1-70b", "accelerator": f"{CLASS}:1"},
        "DoesNotFit",
        "use a larger accelerator class",
    ),
    "no-such-engine": ({"engine": {"version": "0.0.1"}}, "UnknownEngineVersion", "spec.engine.version"),
    "no-such-preset": ({"preset": "nothing-9b"}, "UnknownPreset", "spec.preset"),
}


def test_bad_models_say_what_to_do_and_hold_up_no_good_one(cluster):
    space = cluster.namespace("mixed")
    cluster.serve.run(lambda: cluster.serve.behave(space, behaviour()))
    for name, (spec, _, _) in BAD.items():
        cluster.model(space, name, **spec)
    for name in ("refused", "broken", good(space)):
        cluster.model(space, name)
    cluster.ready(space, good(space))
    for name, (_, reason, remedy) in BAD.items():
        cluster.until(lambda name=name, reason=reason: cluster.condition(MODELS, space, name)[1] == reason)
        status, _, message = cluster.condition(MODELS, space, name)
        assert status == "False"
        assert remedy in message, message
    cluster.until(lambda: cluster.condition(MODELS, space, "refused", "Degraded")[1] == "Refused")
    assert "no such flag" in cluster.condition(MODELS, space, "refused", "Degraded")[2]
    cluster.until(lambda: cluster.condition(MODELS, space, "broken", "Degraded")[1] == "EngineFailed")
    assert "no weights here" in cluster.condition(MODELS, space, "broken", "Degraded")[2]
    cluster.model(space, "late")
    cluster.ready(space, "late")
    cluster.model(space, "missing-class")  # mended: it follows
    cluster.ready(space, "missing-class")


def behaviour():
    return Behaviour(
        refused={"refused--*": "no such flag"}, failing={"broken--*": "OSError: no weights here"}, start_s=0.2
    )


def test_one_public_name_goes_to_the_older_of_two_routes(cluster):
    space = served(cluster, "names")
    spec = {"modelName": "assistant", "backends": [{"model": good(space)}]}
    cluster.apply(ROUTES, space, "b-older", spec=spec)
    cluster.until(lambda: cluster.condition(ROUTES, space, "b-older")[1] == "Routed")
    cluster.until(lambda: cluster.apply(ROUTES, space, "c-younger", spec=spec))
    cluster.until(lambda: cluster.condition(ROUTES, space, "c-younger")[1] == "NameTaken")
    assert "b-older" in cluster.condition(ROUTES, space, "c-younger")[2]
    assert cluster.condition(ROUTES, space, "b-older")[0] == "True"
    cluster.delete(ROUTES, space, "b-older")
    cluster.until(lambda: cluster.condition(ROUTES, space, "c-younger")[1] == "Routed")


def test_a_secret_without_the_key_is_named(cluster):
    space = served(cluster, "keyless")
    cluster.apply(SECRETS, space, "keys", data={"other": base64.b64encode(b"sk-x").decode()})
    cluster.apply(
        TENANTS, space, "acme", spec={"keys": [{"name": "main", "secretRef": {"name": "keys", "key": "api-key"}}]}
    )
    cluster.until(lambda: cluster.condition(TENANTS, space, "acme")[1] == "SecretKeyNotFound")
    assert "keys" in cluster.condition(TENANTS, space, "acme")[2]
    assert cluster.is_ready(space, good(space))


PODS_IN_TROUBLE = {
    "ImagePullFailed": {
        "containerStatuses": [
            {
                "name": "engine", "image": "x", "imageID": "", "ready": False, "restartCount": 0,
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}},
            }
        ]
    },
    "Unschedulable": {
        "conditions": [
            {
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("reason", PODS_IN_TROUBLE)
def test_what_keeps_a_worker_from_running_is_told_on_its_model(cluster, reason):
    space = cluster.namespace(f"pods-{reason.lower()}")
    cluster.serve.run(lambda: cluster.serve.behave(space, Behaviour(starving={"stuck-*"})))
    cluster.model(space, good(space))
    stuck = f"stuck-{reason.lower()}"
    cluster.model(space, stuck)
    cluster.ready(space, good(space))
    worker(cluster, space, stuck, PODS_IN_TROUBLE[reason])
    cluster.until(lambda: cluster.condition(MODELS, space, stuck, "Degraded")[1] == reason)
    assert cluster.condition(MODELS, space, stuck)[0] == "False"
    assert cluster.is_ready(space, good(space))


def worker(cluster, space, model, status):
    """Make a Model's worker pod as KubeRay does, and say of it what a kubelet would."""
    ray = cluster.cluster(space)
    groups = ray["spec"]["workerGroupSpecs"]
    [group] = [one for one in groups if one["labels"]["penstock.dev/model"] == model]
    cluster.apply(SERVICE_ACCOUNTS, space, "default")
    labels = group["template"]["metadata"]["labels"] | group["labels"] | {
        "ray.io/cluster": ray["metadata"]["name"], "ray.io/group": group["groupName"], "ray.io/node-type": "worker",
    }  # fmt: skip
    name = f"{group['groupName']}-0"
    body = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": space, "name": name, "labels": labels},
        "spec": group["template"]["spec"],
    }  # fmt: skip
    cluster.plane.apply(PODS.path(space), body)
    cluster.patch(PODS, space, name, {"status": {"phase": "Pending", **status}}, "status")


def test_an_exceeded_quota_is_told_in_the_api_servers_words(cluster):
    space = served(cluster, "quota")
    failure = {
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreateWorkerPod",
        "message": 'pods "w" is forbidden: exceeded quota: gpus', "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    cluster.serve.run(lambda: cluster.serve.behave(space, Behaviour(starving={"more--*"})))
    cluster.model(space, "more")
    cluster.until(lambda: cluster.condition(MODELS, space, "more")[0] == "False")
    ray = cluster.cluster(space)
    conditions = [*ray["status"]["conditions"], failure]
    cluster.patch(RAY_CLUSTERS, space, ray["metadata"]["name"], {"status": {"conditions": conditions}}, "status")
    cluster.until(lambda: cluster.condition(MODELS, space, "more", "Degraded")[1] == "QuotaExceeded")
    assert "ResourceQuota" in cluster.condition(MODELS, space, "more", "Degraded")[2]
    cluster.until(lambda: cluster.is_ready(space, good(space)))
