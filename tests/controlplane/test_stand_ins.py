"""The played KubeRay on a real API server with KubeRay's own definitions, and the played Serve behind its REST API."""

import asyncio
import time

import pytest

from penstock.serve.client import ServeClient
from penstock.serve.errors import ServeRefusedError, ServeUnauthorizedError, ServeUnreachableError
from penstock_kube.config import Access
from penstock_kube.resources import RAY_CLUSTERS, Key
from tests.support import kuberay_crds
from tests.support.kuberay import kuberay
from tests.support.serve_api import serve_api

pytestmark = pytest.mark.controlplane

NAMESPACE = "stand-ins"
TEMPLATE = {"spec": {"containers": [{"name": "ray", "image": "penstock-engine:0.1.0"}]}}
CLUSTER = {
    "apiVersion": RAY_CLUSTERS.api_version,
    "kind": RAY_CLUSTERS.kind,
    "metadata": {"namespace": NAMESPACE, "name": "pool"},
    "spec": {
        "rayVersion": "2.60.0",
        "authOptions": {"mode": "token"},
        "headGroupSpec": {"rayStartParams": {}, "template": TEMPLATE},
    },
}
APPLICATION = {
    "name": "a",
    "import_path": "engine:build",
    "route_prefix": "/a",
    "external_scaler_enabled": True,
    "deployments": [{"name": "Engine", "num_replicas": 1}],
}


def eventually(check, within_s=15.0):
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            return check()
        except (AssertionError, RuntimeError, KeyError):
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)


def test_a_ray_cluster_comes_up_loses_its_head_and_is_cleaned_up_after(plane):
    for definition in kuberay_crds.definitions():
        if definition["spec"]["names"]["kind"] == "RayCluster":
            plane.apply("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    plane.apply("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    clusters, key = RAY_CLUSTERS.path(NAMESPACE), Key(NAMESPACE, "pool")
    eventually(lambda: plane.apply(clusters, CLUSTER))

    def status():
        return plane.call("GET", f"{clusters}/pool")["status"]

    def provisioned(head):
        said = {one["type"]: one["status"] for one in status()["conditions"]}
        assert said == {"HeadPodReady": head, "RayClusterProvisioned": "True"}

    with serve_api() as serve, kuberay(Access(str(plane.kubeconfig())), serve) as ray:
        eventually(lambda: provisioned("True"))
        assert status()["state"] == "ready"
        assert status()["head"]["serviceName"] == "pool-head-svc"
        plane.call("GET", f"/api/v1/namespaces/{NAMESPACE}/services/pool-head-svc")
        secret = plane.call("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/pool")
        assert secret["data"]["auth_token"]
        ray.lose_head(key)
        eventually(lambda: provisioned("False"))
        ray.heal_head(key)
        eventually(lambda: provisioned("True"))
        plane.call("DELETE", f"{clusters}/pool")

        def cleaned():
            services = plane.call("GET", f"/api/v1/namespaces/{NAMESPACE}/services")["items"]
            assert "pool-head-svc" not in {service["metadata"]["name"] for service in services}

        eventually(cleaned)


def test_the_rest_api_answers_the_client_and_fails_on_demand():
    async def talk(serve):
        url = serve.url.format(namespace="team")
        async with ServeClient(url, "secret") as client, ServeClient(url) as stranger:
            await client.put({"applications": [APPLICATION]})
            await client.scale("a", "Engine", 3)
            status = await client.status()
            assert len(status.applications["a"].replicas) == 3
            serve.require_token("team", "secret")
            await client.status()
            with pytest.raises(ServeUnauthorizedError):
                await stranger.status()
            serve.behaviour.refused["a"] = "no such engine"
            with pytest.raises(ServeRefusedError, match="no such engine"):
                await client.put({"applications": [APPLICATION]})
            serve.cut_off("team")
            with pytest.raises(ServeUnreachableError):
                await client.status()
            serve.mend("team")
            serve.hang("team")
            waiting = asyncio.create_task(client.status())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(waiting), 0.2)
            serve.mend("team")
            assert (await waiting).started
            await client.delete_all()
            assert (await client.status()).applications == {}

    with serve_api() as serve:
        asyncio.run(talk(serve))
