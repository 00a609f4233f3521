"""What pods say becomes a reason and a remedy."""

import datetime as dt

import pytest

from penstock_operator.pool.troubles import PATIENCE_S, cluster_trouble, head_trouble, pod_troubles

NOW = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)


def pod(status, *, model="llama", **metadata):
    labels = {"penstock.dev/model": model} | metadata.pop("labels", {})
    return {"metadata": {"name": "p", "labels": labels, **metadata}, "status": status}


def waiting(reason, message="because"):
    return {"containerStatuses": [{"name": "engine", "state": {"waiting": {"reason": reason, "message": message}}}]}


def unscheduled(since):
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"conditions": [condition | {"lastTransitionTime": since.strftime("%Y-%m-%dT%H:%M:%SZ")}]}


@pytest.mark.parametrize(
    ("status", "reason", "remedy"),
    [
        (waiting("ImagePullBackOff"), "ImagePullFailed", "spec.engine.image"),
        (waiting("CreateContainerConfigError", 'secret "hub" not found'), "PodConfigInvalid", "Secrets"),
        (
            {"containerStatuses": [{"name": "engine", "state": {"terminated": {"reason": "OOMKilled"}}}]},
            "OutOfMemory",
            "resources.limits.memory",
        ),
        (unscheduled(NOW), "Unschedulable", "nodeSelector"),
    ],
)
def test_a_pod_in_trouble_is_its_models_obstacle(status, reason, remedy):
    obstacle = pod_troubles([pod(status)], NOW)["llama"]
    assert obstacle.reason == reason
    assert remedy in obstacle.message


def test_a_pod_that_runs_or_is_going_is_no_obstacle():
    fine = {"containerStatuses": [{"name": "engine", "state": {"running": {}}}]}
    going = pod(waiting("ImagePullBackOff"), deletionTimestamp="2026-11-24T11:00:00Z")
    assert pod_troubles([pod(fine), going], NOW) == {}


def test_node_autoscalers_have_their_time():
    early = pod_troubles([pod(unscheduled(NOW))], NOW)["llama"]
    late = pod_troubles([pod(unscheduled(NOW - dt.timedelta(seconds=PATIENCE_S)))], NOW)["llama"]
    assert (early.passing, late.passing) == (True, False)


def cluster(created=NOW, **condition):
    stamp = created.strftime("%Y-%m-%dT%H:%M:%SZ")
    status = {"conditions": [{"type": "ReplicaFailure", "status": "True", **condition}]} if condition else {}
    return {"metadata": {"name": "penstock-1", "creationTimestamp": stamp}, "status": status}


def test_a_quota_is_told_from_other_failures():
    quota = cluster_trouble(cluster(message='pods "p" is forbidden: exceeded quota: gpus'))
    other = cluster_trouble(cluster(message="admission webhook denied"))
    assert (quota.reason, other.reason) == ("QuotaExceeded", "PodsNotCreated")
    assert cluster_trouble(cluster()) is None


def test_a_head_that_does_not_come_up_says_why():
    labels = {"ray.io/cluster": "penstock-1", "ray.io/node-type": "head"}
    assert head_trouble(cluster(), [pod(waiting("ErrImagePull"), labels=labels)], NOW).reason == "ImagePullFailed"
    new, old = cluster(), cluster(NOW - dt.timedelta(seconds=PATIENCE_S))
    assert head_trouble(new, [], NOW).passing is True
    assert head_trouble(old, [], NOW).passing is False
    assert "KubeRay" in head_trouble(old, [], NOW).message
