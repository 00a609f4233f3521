"""The chart on a real API server: installed, changed, rolled back and uninstalled by the real helm."""

import base64
import json
import time
from functools import partial

import pytest

from tests.support.chart import CHART, Helm
from tests.support.kuberay_crds import definitions

pytestmark = pytest.mark.controlplane

NAMESPACE = "penstock"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
API_SERVERS = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
    "addressType": "IPv4",
    "ports": [{"name": "https", "port": 6443}],
    "endpoints": [{"addresses": ["192.0.2.10"]}, {"addresses": ["192.0.2.11"]}],
}
"""What an API server writes of itself where it does not listen on loopback."""


@pytest.fixture(scope="module")
def helm(breakable, tmp_path_factory):
    return Helm(tmp_path_factory.mktemp("helm"), breakable.kubeconfig())


@pytest.fixture(scope="module")
def refusal(helm):
    """What helm says where KubeRay is missing; before `installed`, which brings it."""
    return helm.run("install", "penstock", str(CHART), "--namespace", NAMESPACE, "--create-namespace")


@pytest.fixture(scope="module")
def installed(breakable, helm, refusal):
    (ray_cluster,) = [each for each in definitions() if each["spec"]["names"]["kind"] == "RayCluster"]
    breakable.apply(DEFINITIONS, ray_cluster)
    eventually(partial(breakable.call, "GET", "/apis/ray.io/v1/rayclusters"))
    breakable.apply("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", API_SERVERS)
    text = helm("install", "penstock", str(CHART), "--namespace", NAMESPACE, "--create-namespace")
    eventually(partial(breakable.call, "GET", "/apis/penstock.dev/v1alpha1/models"))
    return text


def eventually(call, within_s=20.0):
    """The answer of a call that is refused at first."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return call()
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def exists(plane, path):
    with plane.client() as client:
        answer = client.get(path)
    assert answer.status_code in (200, 404), answer.text
    return answer.status_code == 200


def secret(plane, name, key):
    return base64.b64decode(plane.call("GET", f"{SECRETS}/{name}")["data"][key]).decode()


def made_secrets(plane):
    keys = (("penstock-pepper", "pepper"), ("penstock-admin-token", "token"), ("penstock-redis", "password"))
    return {name: secret(plane, name, key) for name, key in keys}


def complete(plane, job):
    """Say of a Job what its controller says when its pod has succeeded: no kubelet runs here."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    conditions = [
        {
            "type": kind,
            "status": "True",
            "lastProbeTime": now,
            "lastTransitionTime": now,
            "reason": "CompletionsReached",
        }
        for kind in ("SuccessCriteriaMet", "Complete")
    ]
    status = {"startTime": now, "completionTime": now, "succeeded": 1, "ready": 0, "terminating": 0}
    body = {"status": {**status, "uncountedTerminatedPods": {}, "conditions": conditions}}
    name = job["metadata"]["name"]
    plane.call("PATCH", f"{JOBS}/{name}/status", body, kind="application/merge-patch+json")


def test_a_cluster_without_kuberay_is_named_with_the_remedy(refusal, breakable, helm):
    assert refusal.returncode != 0
    assert "this cluster has no RayCluster" in refusal.stderr
    assert "Install KubeRay" in refusal.stderr
    assert helm.render()  # without a cluster there is nothing to check


def test_it_installs_and_names_the_next_command(installed, breakable):
    assert "STATUS: deployed" in installed
    assert "kubectl apply -f -" in installed
    assert {item["metadata"]["name"] for item in breakable.call("GET", DEPLOYMENTS)["items"]} == {
        "penstock-operator",
        "penstock-gateway",
        "penstock-ledger",
        "penstock-redis",
    }


def test_the_six_lines_are_taken(installed, breakable):
    body = {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": "llama-3-1-8b"},
        "spec": {"source": "hf://meta-llama/Llama-3.1-8B-Instruct", "accelerator": "nvidia-h100:1"},
    }
    breakable.apply("/apis/penstock.dev/v1alpha1/namespaces/default/models", body, dry_run=True)


def test_secrets_are_random_and_fit_each_other(installed, breakable):
    secrets = made_secrets(breakable)
    assert len(secrets["penstock-pepper"]) >= 32
    assert len(set(secrets.values())) == len(secrets)
    url = secret(breakable, "penstock-redis", "url")
    assert url == f"redis://:{secrets['penstock-redis']}@penstock-redis.{NAMESPACE}.svc:6379/0"


def test_an_upgrade_changes_what_it_names_and_keeps_the_secrets(installed, breakable, helm):
    before = made_secrets(breakable)
    operator = breakable.call("GET", f"{DEPLOYMENTS}/penstock-operator")["metadata"]["generation"]
    upgrade = ("upgrade", "penstock", str(CHART), "--namespace", NAMESPACE, "--set", "gateway.drainSeconds=900")
    helm(*upgrade)
    (container,) = breakable.call("GET", f"{DEPLOYMENTS}/penstock-gateway")["spec"]["template"]["spec"]["containers"]
    assert {"name": "PENSTOCK_GATEWAY_DEADLINES__DRAIN_S", "value": "900"} in container["env"]
    assert made_secrets(breakable) == before
    assert breakable.call("GET", f"{DEPLOYMENTS}/penstock-operator")["metadata"]["generation"] == operator
    helm("rollback", "penstock", "--namespace", NAMESPACE)
    (container,) = breakable.call("GET", f"{DEPLOYMENTS}/penstock-gateway")["spec"]["template"]["spec"]["containers"]
    assert {"name": "PENSTOCK_GATEWAY_DEADLINES__DRAIN_S", "value": "600"} in container["env"]
    assert made_secrets(breakable) == before


def test_policies_admit_the_api_servers_own_proxy(installed, breakable):
    path = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies/penstock-operator"
    peers = breakable.call("GET", path)["spec"]["ingress"][0]["from"]
    cidrs = {peer["ipBlock"]["cidr"] for peer in peers if "ipBlock" in peer}
    assert cidrs == {"192.0.2.10/32", "192.0.2.11/32"}


def test_an_uninstall_runs_the_release_first_and_keeps_what_is_dear(installed, breakable, helm):
    before = made_secrets(breakable)
    uninstall = helm.start("uninstall", "penstock", "--namespace", NAMESPACE, "--timeout", "60s")
    job = eventually(partial(breakable.call, "GET", f"{JOBS}/penstock-release"), within_s=30)
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "penstock-release"
    assert exists(breakable, f"{DEPLOYMENTS}/penstock-operator"), "the release comes before all else"
    complete(breakable, job)
    output, error = uninstall.communicate(timeout=90)
    assert uninstall.returncode == 0, error
    assert not exists(breakable, f"{DEPLOYMENTS}/penstock-operator")
    assert not exists(breakable, "/apis/rbac.authorization.k8s.io/v1/clusterroles/penstock-penstock-release")
    assert not exists(breakable, f"{SECRETS}/penstock-admin-token")
    for kept in ("models.penstock.dev", "tenants.penstock.dev"):
        assert exists(breakable, f"{DEFINITIONS}/{kept}")
    assert exists(breakable, f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/penstock-ledger")
    assert secret(breakable, "penstock-pepper", "pepper") == before["penstock-pepper"]
    assert "penstock-pepper" in output, "helm names what it keeps"
    helm("install", "penstock", str(CHART), "--namespace", NAMESPACE)
    assert secret(breakable, "penstock-pepper", "pepper") == before["penstock-pepper"]
    assert json.dumps(before["penstock-admin-token"]) != json.dumps(secret(breakable, "penstock-admin-token", "token"))
