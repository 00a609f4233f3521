"""RayClusters: what is applied is not planned again, nothing that others count is taken back, and groups leave last."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_operator.pool.cluster import cluster_name, cluster_object, is_applied, is_head_ready
from penstock_operator.pool.groups import worker_group
from penstock_operator.pool.pods import head_template, worker_template
from penstock_operator.settings import RayOptions
from tests.unit.operator.pool.makers import NAMESPACE, accelerator, model

OPTIONS = RayOptions()


def group(name="llama", **spec):
    wanted = model(name, **spec)
    return worker_group(wanted, wanted.placements[0], accelerator(), OPTIONS)


def stored(wanted, version=1):
    """Return an object as the API server would have it: with defaults and fields of others."""
    body = copy.deepcopy(json.loads(json.dumps(wanted)))
    body["metadata"] |= {"resourceVersion": str(version), "uid": "u", "generation": version}
    for spec in body["spec"]["workerGroupSpecs"]:
        spec.setdefault("suspend", False)
    return body


def specs(cluster):
    return {spec["groupName"]: spec for spec in cluster["spec"]["workerGroupSpecs"]}


def plan(groups, current=None, **seen):
    return cluster_object(NAMESPACE, OPTIONS, groups, current, **seen)


@given(st.sets(st.sampled_from(["a", "b", "c", "d"])), st.sets(st.sampled_from(["a", "b", "c", "d"])))
def test_what_is_applied_is_not_planned_again(before, after):
    current = stored(plan([group(name) for name in before]))
    wanted = plan([group(name) for name in after], current)
    again = stored(wanted, 2)
    rest = plan([group(name) for name in after], again)
    # A group that nobody asks for takes two steps: to zero, and away.
    final = stored(rest, 3)
    assert is_applied(final, plan([group(name) for name in after], final))
    assert {spec["labels"]["penstock.dev/model"] for spec in specs(final).values()} == after


def test_counts_and_victims_of_rays_autoscaler_are_kept():
    current = stored(plan([group()]))
    spec = current["spec"]["workerGroupSpecs"][0]
    spec |= {"replicas": 3, "scaleStrategy": {"workersToDelete": ["pod-1"]}}
    assert is_applied(current, plan([group()], current))
    other = specs(plan([group(), group("other")], current))[group().name]
    assert (other["replicas"], other["scaleStrategy"]) == (3, {"workersToDelete": ["pod-1"]})


def test_a_write_is_refused_when_somebody_was_faster():
    current = stored(plan([group()]), version=7)
    assert plan([group()], current)["metadata"]["resourceVersion"] == "7"
    assert "resourceVersion" not in plan([group()])["metadata"]


def test_a_group_that_something_runs_in_stays_as_it_is():
    old = group()
    current = stored(plan([old]))
    kept = specs(plan([], current, used=frozenset({old.name})))
    assert kept[old.name]["maxReplicas"] == old.most


def test_a_group_that_nobody_asks_for_goes_to_zero_and_leaves_after_its_last_pod():
    old = group()
    current = stored(plan([old]))
    pod = {"metadata": {"labels": {"ray.io/cluster": cluster_name(OPTIONS), "ray.io/group": old.name}}}
    emptied = plan([], current, pods=[pod])
    assert specs(emptied)[old.name]["maxReplicas"] == 0
    still = plan([], stored(emptied), pods=[pod])
    assert old.name in specs(still)
    assert specs(plan([], stored(still))) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"engine": {"image": "registry/engine:2"}},
        {"podTemplate": {"spec": {"priorityClassName": "high"}}},
        {"accelerator": "nvidia-h100:4"},
        {"sourceSecretRef": {"name": "hub", "key": "token"}},
        {"source": "pvc://weights/llama"},
        {"accelerators": [{"class": "nvidia-h100", "count": 2, "purchase": "Spot"}], "accelerator": None},
    ],
)
def test_a_change_of_the_pods_is_another_group(change):
    assert group(**change).name != group().name


@pytest.mark.parametrize("change", [{"replicas": 1}, {"scaling": {"maxReplicas": 9}}, {"env": [{"name": "A"}]}])
def test_what_is_no_matter_of_pods_leaves_the_group(change):
    assert group(**change).name == group().name


@pytest.mark.parametrize(
    "change",
    [{"version": "2.61.0"}, {"image": "other"}, {"gcs_redis_address": "redis:6379"}, {"head_memory": "8Gi"}],
)
def test_a_change_of_ray_or_the_head_is_another_cluster(change):
    assert cluster_name(OPTIONS.model_copy(update=change)) != cluster_name(OPTIONS)


def test_a_change_that_a_running_cluster_can_take_is_not():
    assert cluster_name(OPTIONS.model_copy(update={"idle_timeout_s": 5})) == cluster_name(OPTIONS)


def test_a_hand_edit_is_seen():
    current = stored(plan([group()]))
    current["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["image"] = "mine"
    assert not is_applied(current, plan([group()], current))


def test_a_worker_has_room_for_exactly_one_replica():
    params = group().template["rayStartParams"]
    assert (params["num-cpus"], params["num-gpus"]) == ("1", "2")
    tpu = accelerator("tpu", resourceName="google.com/tpu", vendor="google")
    wanted = model(accelerator="tpu:4")
    params = worker_group(wanted, wanted.placements[0], tpu, OPTIONS).template["rayStartParams"]
    assert params["resources"] == "'{\"TPU\": 4.0}'"


@pytest.mark.parametrize(
    "template", [head_template(OPTIONS), worker_template(model(), model().placements[0], accelerator(), OPTIONS)]
)
def test_pods_pass_the_level_restricted(template):
    spec = template["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_models_own_template_is_merged_over_ours():
    overlay = {
        "metadata": {"annotations": {"team": "a"}, "labels": {"app.kubernetes.io/managed-by": "me"}},
        "spec": {
            "restartPolicy": "Always",
            "tolerations": [{"key": "mine"}],
            "containers": [
                {"name": "engine", "resources": {"limits": {"memory": "9Gi"}}, "env": [{"name": "A", "value": "1"}]},
                {"name": "beside", "image": "other"},
            ],
        },
    }
    wanted = model(podTemplate=overlay)
    kind = accelerator(tolerations=[{"key": "gpu"}], nodeSelector={"gpu": "h100"})
    template = worker_template(wanted, wanted.placements[0], kind, OPTIONS)
    engine, beside = template["spec"]["containers"]
    assert engine["resources"]["limits"] == {"memory": "9Gi", "nvidia.com/gpu": "2"}
    assert {"name": "A", "value": "1"} in engine["env"]
    assert {"name": "RAY_SERVE_ENABLE_DIRECT_INGRESS", "value": "1"} in engine["env"]
    assert {"name": "RAY_max_direct_call_object_size", "value": "1000000"} in engine["env"]
    assert beside["name"] == "beside"
    assert template["spec"]["tolerations"] == [{"key": "gpu"}, {"key": "mine"}]
    assert template["spec"]["nodeSelector"] == {"gpu": "h100"}
    # What Ray's autoscaler and our mirrors stand on is not the user's to change.
    assert template["spec"]["restartPolicy"] == "Never"
    assert template["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "penstock"


@pytest.mark.parametrize("container", [{"name": {"a": "b"}}, {"name": "engine", "env": [{"name": ["A"]}]}, 5])
def test_a_name_that_can_be_none_is_left_for_the_api_server_to_refuse(container):
    wanted = model(podTemplate={"spec": {"containers": [container]}})
    template = worker_template(wanted, wanted.placements[0], accelerator(), OPTIONS)
    assert json.dumps(container if container == 5 else container["name"]) in json.dumps(template)


def test_claims_and_the_hubs_token_reach_the_engine():
    wanted = model(source="pvc://weights/llama", sourceSecretRef={"name": "hub", "key": "token"})
    template = worker_template(wanted, wanted.placements[0], accelerator(), OPTIONS)
    [engine] = template["spec"]["containers"]
    source = {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert {"name": "HF_TOKEN", "valueFrom": source} in engine["env"]
    assert "/mnt/penstock/pvc/weights" in {mount["mountPath"] for mount in engine["volumeMounts"]}


def test_a_redis_of_its_own_lets_the_head_be_lost():
    options = RayOptions(gcs_redis_address="redis:6379", gcs_redis_secret="ray-redis")
    redis = cluster_object(NAMESPACE, options, [], None)["spec"]["gcsFaultToleranceOptions"]
    source = {"secretKeyRef": {"name": "ray-redis", "key": "password"}}
    assert redis == {"redisAddress": "redis:6379", "redisPassword": {"valueFrom": source}}


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({}, False),
        ({"conditions": [{"type": "HeadPodReady", "status": "True"}]}, True),
        ({"state": "ready", "conditions": [{"type": "HeadPodReady", "status": "False"}]}, False),
        ({"state": "ready"}, True),
    ],
)
def test_a_head_is_ready_when_kuberay_says_so(status, ready):
    assert is_head_ready({"status": status}) is ready
