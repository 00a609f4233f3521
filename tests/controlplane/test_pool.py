"""Pools on a real API server with KubeRay's own definition; Ray Serve and KubeRay are played at their protocols."""

import asyncio
import secrets
import time

import pytest

from penstock.api.crd import CRD_KINDS, custom_resource_definition
from penstock_kube.config import Access
from penstock_kube.resources import ENDPOINT_SLICES, MODELS, NETWORK_POLICIES, PODS, RAY_CLUSTERS, Key
from tests.support.kuberay import kuberay
from tests.support.kuberay_crds import definitions
from tests.support.pools import CLASS, pools, until
from tests.support.serve_api import Behaviour, Load, serve_api

pytestmark = [pytest.mark.anyio, pytest.mark.controlplane]

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="module")
def api(plane):
    """The control plane with our definitions and KubeRay's."""
    for definition in (*(custom_resource_definition(kind) for kind in CRD_KINDS), *definitions()):
        if definition["metadata"]["name"].startswith("raycluster") or "penstock" in definition["metadata"]["name"]:
            plane.apply(DEFINITIONS, definition)
    return plane


@pytest.fixture(scope="module")
def serve(api):
    with serve_api() as running:
        yield running


@pytest.fixture(scope="module")
def ray(api, serve):
    with kuberay(Access.find(api.kubeconfig()), serve) as running:
        yield running


@pytest.fixture
async def pool(api, ray, serve, tmp_path):
    """A fresh namespace and its pool."""
    namespace = f"pool-{secrets.token_hex(4)}"
    async with pools(api.kubeconfig(), namespace, serve.url, tmp_path / "spool") as running:
        yield running


async def test_a_model_comes_up_and_gateways_hear_of_it_in_few_calls(pool, serve):
    await pool.model("llama")
    pool.calls.made.clear()
    await until(lambda: pool.ready("llama") == 1 and pool.endpoints(), what=lambda: pool.view("llama"))
    [cluster] = pool.clusters()
    [group] = cluster["spec"]["workerGroupSpecs"]
    assert group["labels"]["penstock.dev/model"] == "llama"
    [put] = serve.run(lambda: serve.serve(pool.namespace).puts)
    [app] = put["applications"]
    assert app["deployments"][0]["ray_actor_options"]["label_selector"] == {"penstock.dev/group": group["groupName"]}
    [item] = pool.slices()
    [endpoint] = item["endpoints"]
    view = pool.view("llama")
    assert [replica.id for replica in view.replicas] == [endpoint["hostname"]]
    assert item["ports"][0]["port"] == view.replicas[0].port
    assert item["metadata"]["annotations"]["penstock.dev/variant"] == app["name"]
    assert [event["kind"] for event in pool.events()] == ["Start", "Ready"]
    assert sorted(pool.calls.made) == [
        ("apply", "endpointslices"), ("apply", "networkpolicies"), ("apply", "rayclusters"), ("get", "secrets"),
    ]  # fmt: skip
    assert pool.condition("llama", "Ready") == (True, "ReplicasReady")


async def test_nothing_is_written_while_nothing_changes(pool):
    await pool.model("llama")
    await until(lambda: pool.ready("llama") == 1 and pool.endpoints())
    await asyncio.sleep(0.5)  # whatever follows from that
    pool.calls.made.clear()
    await asyncio.sleep(2.0)
    assert pool.calls.made == []


async def test_a_scale_down_waits_for_gateways_and_stops_whom_they_left(pool, serve):
    serve.behave(pool.namespace, Behaviour(drain_s=1.0))
    await pool.model("llama", replicas=2, scaling={"mode": "External"})
    await until(lambda: list(pool.endpoints().values()) == [True, True], what=pool.endpoints)
    pool.gateway.deaf.update(pool.endpoints())
    await pool.model("llama", replicas=1, scaling={"mode": "External"})
    await until(lambda: sorted(pool.endpoints().values()) == [False, True], what=pool.endpoints)
    [victim] = [name for name, ready in pool.endpoints().items() if not ready]
    simulated = serve.run(lambda: serve.serve(pool.namespace))
    assert serve.run(lambda: list(simulated.scales)) == []
    pool.gateway.deaf.clear()
    await until(lambda: serve.run(lambda: list(simulated.scales)))
    await until(lambda: victim not in pool.endpoints() and pool.ready("llama") == 1)
    ends = [event["replica"] for event in pool.events() if event["kind"] == "End"]
    assert ends == [victim]


async def test_a_changed_revision_takes_over_before_the_old_one_goes(pool, serve):
    serve.behave(pool.namespace, Behaviour(start_s=0.5))
    await pool.model("llama")
    await until(lambda: pool.ready("llama") == 1 and pool.endpoints())
    [old] = pool.endpoints()
    fewest = []
    await pool.model("llama", engine={"args": ["--max-num-seqs", "8"]})

    def taken_over():
        fewest.append(sum(pool.endpoints().values()))
        return old not in pool.endpoints() and pool.condition("llama", "Progressing")[0] is False

    await until(taken_over, what=lambda: pool.view("llama"))
    assert min(fewest) >= 1
    puts = serve.run(lambda: list(serve.serve(pool.namespace).puts))
    assert max(len(put["applications"]) for put in puts) == 2
    await until(lambda: len(pool.slices()) == 1)


async def test_a_deleted_model_drains_and_the_cluster_goes_with_the_last_one(pool, serve):
    serve.behave(pool.namespace, Behaviour(drain_s=0.5))
    metadata = {"namespace": pool.namespace, "name": "llama", "finalizers": ["penstock.dev/drain"]}
    body = {"source": "hf://organisation/name", "accelerator": f"{CLASS}:1"}
    await pool.kube.apply(MODELS, {"metadata": metadata, "spec": body})
    await until(lambda: pool.ready("llama") == 1 and pool.endpoints())
    key = Key(pool.namespace, "llama")
    await pool.kube.delete(MODELS, *key)
    await until(lambda: list(pool.endpoints().values()) == [False], what=pool.endpoints)
    assert not pool.world.is_gone(key)
    await until(lambda: pool.world.is_gone(key), what=lambda: pool.view("llama"))
    await pool.kube.merge_patch(MODELS, *key, {"metadata": {"finalizers": None}})
    await until(lambda: not pool.clusters() and not pool.slices(), what=pool.clusters)
    assert [event["kind"] for event in pool.events()] == ["Start", "Ready", "Drain", "End"]


async def test_a_silent_serve_is_said_and_nothing_is_taken_back(pool, serve):
    await pool.model("llama")
    await until(lambda: pool.ready("llama") == 1 and pool.endpoints())
    serve.cut_off(pool.namespace)
    before = pool.endpoints()
    await until(lambda: pool.condition("llama", "Degraded") == (True, "ServeUnreachable"))
    assert pool.condition("llama", "Ready") == (None, "ServeUnreachable")
    assert pool.endpoints() == before
    serve.mend(pool.namespace)
    await until(lambda: pool.condition("llama", "Ready") == (True, "ReplicasReady"))


async def test_replicas_lost_with_the_head_end_and_come_back(pool, ray, serve):
    await pool.model("llama")
    await until(lambda: pool.ready("llama") == 1 and pool.endpoints())
    [lost] = pool.endpoints()
    [cluster] = pool.clusters()
    key = Key(pool.namespace, cluster["metadata"]["name"])
    ray.lose_head(key)
    await until(lambda: pool.condition("llama", "Progressing")[1] == "ClusterNotReady", what=lambda: pool.view("llama"))
    ray.heal_head(key)
    await until(lambda: pool.endpoints() and lost not in pool.endpoints(), what=pool.endpoints)
    [end] = [event for event in pool.events() if event["kind"] == "End"]
    assert (end["replica"], end["cause"]) == (lost, "HeadLost")


async def test_hand_edits_and_deletions_are_put_right(pool):
    await pool.model("llama")
    await until(lambda: pool.ready("llama") == 1 and pool.endpoints())
    [cluster], [item] = pool.clusters(), pool.slices()
    name = cluster["metadata"]["name"]
    patch = {"spec": {"enableInTreeAutoscaling": False}}
    edited = await pool.kube.merge_patch(RAY_CLUSTERS, pool.namespace, name, patch)
    await until(lambda: pool.clusters()[0]["metadata"]["generation"] > edited["metadata"]["generation"])
    assert pool.clusters()[0]["spec"]["enableInTreeAutoscaling"] is True
    await pool.kube.delete(ENDPOINT_SLICES, pool.namespace, item["metadata"]["name"])
    await until(lambda: [new["metadata"]["uid"] for new in pool.slices()] not in ([], [item["metadata"]["uid"]]))
    await pool.kube.delete(RAY_CLUSTERS, pool.namespace, name)
    await until(lambda: [new["metadata"]["uid"] for new in pool.clusters()] not in ([], [cluster["metadata"]["uid"]]))
    await until(lambda: pool.ready("llama") == 1, what=lambda: pool.view("llama"))


async def test_engines_admit_gateways_whatever_somebody_writes_into_the_policy(pool):
    await pool.model("llama")
    await until(lambda: pool.ready("llama") == 1)
    before, [cluster] = await pool.policy(), pool.clusters()
    assert [owner["uid"] for owner in before["metadata"]["ownerReferences"]] == [cluster["metadata"]["uid"]]
    assert [port for rule in before["spec"]["ingress"] for port in rule.get("ports", ())] == [
        {"protocol": "TCP", "port": 30000, "endPort": 31000},
        {"protocol": "TCP", "port": 8265},
    ]
    name, pool.calls.made[:] = before["metadata"]["name"], []
    await pool.kube.merge_patch(NETWORK_POLICIES, pool.namespace, name, {"spec": {"ingress": [{}]}})
    await until(lambda: ("apply", "networkpolicies") in pool.calls.made)
    assert (await pool.policy())["spec"] == before["spec"]


async def test_counts_of_rays_autoscaler_stay(pool):
    await pool.model("llama")
    await until(lambda: pool.ready("llama") == 1)
    [cluster] = pool.clusters()
    groups = [{**group, "replicas": 1} for group in cluster["spec"]["workerGroupSpecs"]]
    name = cluster["metadata"]["name"]
    await pool.kube.merge_patch(RAY_CLUSTERS, pool.namespace, name, {"spec": {"workerGroupSpecs": groups}})
    await pool.model("other")
    await until(lambda: len(pool.clusters()[0]["spec"]["workerGroupSpecs"]) == 2)
    counts = {g["labels"]["penstock.dev/model"]: g["replicas"] for g in pool.clusters()[0]["spec"]["workerGroupSpecs"]}
    assert counts == {"llama": 1, "other": 0}


async def test_a_pod_template_that_the_api_server_refuses_harms_no_other_model(pool):
    wrong = {"spec": {"containers": [{"name": "engine", "imagePullPolicy": 7}]}}
    await pool.model("broken", podTemplate=wrong)
    await pool.model("llama")
    await until(lambda: pool.ready("llama") == 1, what=lambda: (pool.view("llama"), pool.view("broken")))
    await until(lambda: pool.condition("broken", "Degraded") == (True, "PodTemplateInvalid"))


async def test_a_model_that_serve_refuses_harms_no_other(pool, serve):
    serve.behave(pool.namespace, Behaviour(refused={"bad--*": "no such thing"}))
    await pool.model("llama")
    await pool.model("bad")
    await until(lambda: pool.ready("llama") == 1)
    await until(lambda: pool.condition("bad", "Degraded") == (True, "Refused"), what=lambda: pool.view("bad"))


async def test_traffic_moves_to_a_second_cluster_when_it_serves(api, ray, serve, tmp_path):
    namespace, url = f"pool-{secrets.token_hex(4)}", serve.url.replace("{namespace}", "{namespace}.{service}")
    async with pools(api.kubeconfig(), namespace, url, tmp_path / "a") as pool:
        await pool.model("llama")
        await until(lambda: pool.ready("llama") == 1 and pool.endpoints())
        [old], [cluster] = pool.endpoints(), pool.clusters()
    async with pools(api.kubeconfig(), namespace, url, tmp_path / "b", head_memory="6Gi") as pool:
        fewest = []

        def moved():
            fewest.append(sum(pool.endpoints().values()))
            return [c["metadata"]["name"] for c in pool.clusters()] not in ([], [cluster["metadata"]["name"]]) and (
                len(pool.clusters()) == 1
            )

        await until(pool.endpoints)
        fewest.clear()
        await until(moved, what=lambda: (pool.view("llama"), pool.endpoints()))
        assert min(fewest) >= 1
        assert old not in pool.endpoints()
        assert pool.ready("llama") == 1


async def test_somebody_elses_count_is_the_new_target(pool):
    await pool.model("llama", scaling={"maxReplicas": 3})
    await until(lambda: pool.ready("llama") == 1)
    scale = {"spec": {"replicas": 2}}
    await pool.kube.merge_patch(MODELS, pool.namespace, "llama", scale, subresource="scale")
    await until(lambda: pool.ready("llama") == 2, what=lambda: pool.view("llama"))


async def test_pressure_adds_a_replica_and_says_why(pool, serve):
    await _pressed(pool, serve)
    moved = [one for one in pool.controller.decisions(pool.namespace, "llama") if one.target_after == 2]
    assert moved
    assert moved[0].reason


async def test_the_next_leader_keeps_what_the_last_one_had_not_written_down_yet(api, ray, serve, tmp_path):
    namespace = f"pool-{secrets.token_hex(4)}"
    async with pools(api.kubeconfig(), namespace, serve.url, tmp_path / "a") as first:
        await _pressed(first, serve)
        names = set(first.endpoints())
    async with pools(api.kubeconfig(), namespace, serve.url, tmp_path / "b") as second:
        await until(lambda: second.ready("llama") == 2)
        assert second.world.models.get(namespace, "llama")["spec"]["replicas"] == 1
        assert second.view("llama").target == 2
        assert set(second.endpoints()) == names


async def _pressed(pool, serve):
    """Serve a Model, and fill its cache until it is given a second replica."""
    await pool.model("llama", scaling={"maxReplicas": 2, "panicWindowSeconds": 2})
    await until(lambda: pool.ready("llama") == 1 and pool.endpoints())
    [variant] = {item["metadata"]["annotations"]["penstock.dev/variant"] for item in pool.slices()}
    full = Load(kv_usage=0.97, running=16, waiting=40, preemptions=30)

    def press():
        full.preemptions += 5
        full.prompt_tokens += 2000
        full.generation_tokens += 500
        pool.gateway.arrived["llama"] = pool.gateway.arrived.get("llama", 0) + 5
        return pool.ready("llama") == 2

    serve.engines.loads[variant] = full
    await until(press, within_s=60.0, what=lambda: pool.view("llama").decision)


async def test_the_next_leader_takes_over_what_runs(api, ray, serve, tmp_path):
    namespace = f"pool-{secrets.token_hex(4)}"
    async with pools(api.kubeconfig(), namespace, serve.url, tmp_path / "a") as first:
        await first.model("llama")
        await first.model("other")
        await until(lambda: len(first.endpoints()) == 2)
        names = {replica.id: name for name in ("llama", "other") for replica in first.view(name).replicas}
    simulated = serve.run(lambda: serve.serve(namespace))
    puts = serve.run(lambda: len(simulated.puts))
    lost = next(replica for replica, name in names.items() if name == "other")
    serve.run(lambda: simulated.kill_replica(lost, time.time()))
    async with pools(api.kubeconfig(), namespace, serve.url, tmp_path / "b") as second:
        await until(lambda: second.ready("llama") == 1 and second.ready("other") == 1)
        await until(lambda: lost not in second.endpoints() and len(second.endpoints()) == 2)
        assert names.keys() - {lost} < second.endpoints().keys()
        ends = [(event["replica"], event["cause"]) for event in second.events() if event["kind"] == "End"]
        assert ends == [(lost, "EndedUnseen")]
    assert serve.run(lambda: len(simulated.puts)) == puts


async def test_a_pod_that_is_being_deleted_gets_nothing_new(pool):
    await pool.model("llama")
    await until(lambda: pool.ready("llama") == 1 and pool.endpoints())
    [replica] = pool.view("llama").replicas
    labels = {"app.kubernetes.io/managed-by": "penstock", "penstock.dev/model": "llama"}
    metadata = {"namespace": pool.namespace, "name": "worker", "labels": labels, "finalizers": ["example.com/held"]}
    spec = {"containers": [{"name": "engine", "image": "engine"}], "automountServiceAccountToken": False}
    await pool.kube.apply(PODS, {"metadata": metadata, "spec": spec})
    status = {"podIP": replica.address, "podIPs": [{"ip": replica.address}]}
    await pool.kube.merge_patch(PODS, pool.namespace, "worker", {"status": status}, subresource="status")
    assert pool.endpoints() == {replica.id: True}
    await pool.kube.delete(PODS, pool.namespace, "worker")
    await until(lambda: pool.endpoints() == {replica.id: False}, what=pool.endpoints)
    await pool.kube.merge_patch(PODS, pool.namespace, "worker", {"metadata": {"finalizers": None}})
    await until(lambda: pool.endpoints() == {replica.id: True}, what=pool.endpoints)


async def test_an_image_that_cannot_be_pulled_is_said(pool, serve):
    serve.behave(pool.namespace, Behaviour(starving={"*"}, start_s=3600.0))
    await pool.model("llama")
    await until(lambda: pool.condition("llama", "Progressing")[1] == "Starting", what=lambda: pool.view("llama"))
    labels = {"app.kubernetes.io/managed-by": "penstock", "penstock.dev/model": "llama"}
    metadata = {"namespace": pool.namespace, "name": "worker", "labels": labels}
    spec = {"containers": [{"name": "engine", "image": "engine"}], "automountServiceAccountToken": False}
    await pool.kube.apply(PODS, {"metadata": metadata, "spec": spec})
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    container = {
        "name": "engine", "image": "engine", "imageID": "", "ready": False, "restartCount": 0,
        "state": {"waiting": waiting},
    }  # fmt: skip
    status = {"status": {"containerStatuses": [container]}}
    await pool.kube.merge_patch(PODS, pool.namespace, "worker", status, subresource="status")
    await until(
        lambda: pool.condition("llama", "Degraded") == (True, "ImagePullFailed"), what=lambda: pool.view("llama")
    )
