"""The real processes, told what the chart tells them and with the rights it gives them: nothing is refused."""

import contextlib
import os
import subprocess
import sys
from functools import partial

import httpx2
import pytest

from penstock_operator.release.run import FINALIZER
from tests.controlplane.test_chart_rbac import MODEL, PENSTOCK, core, leases, obj, ours, served, wait_for
from tests.support.chart import Helm, rights_of, workloads
from tests.support.control_plane import free_ports
from tests.support.kuberay_crds import definitions

pytestmark = pytest.mark.controlplane

HOME, SERVED = "rbac-home", "rbac-served"
MODES = {
    "cluster-wide": "rbac.namespaced=false",
    "namespaced": f"rbac.namespaced=true,rbac.namespaces={{{SERVED}}}",
}
ELSEWHERE = ("_REDIS_URL_FILE", "_STREAM__NAME", "_LEDGER_URL")
"""What the chart names and is not there: Redis and the ledger."""
CLASS = obj(
    "penstock.dev/v1alpha1",
    "AcceleratorClass",
    "team",
    spec={"vendor": "cpu", "memory": "4Gi", "resourceName": "cpu", "price": {"onDemandPerHour": "0.1"}},
)
TINY = {**MODEL, "metadata": {"name": "tiny"}, "spec": {"preset": "tiny-random", "accelerator": "team:1"}}
ROUTE = obj("penstock.dev/v1alpha1", "Route", "chat", spec={"backends": [{"model": "tiny"}]})
KEYS = obj("v1", "Secret", "keys", data={"key": "c2stdGVzdC1rZXktd2l0aC1lbm91Z2gtYnl0ZXM="})
TENANT = obj(
    "penstock.dev/v1alpha1",
    "Tenant",
    "team",
    spec={"keys": [{"name": "main", "secretRef": {"name": "keys", "key": "key"}}]},
)


@pytest.fixture(scope="module")
def helm(tmp_path_factory):
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module", params=MODES)
def arguments(request, breakable, helm):
    """Values of the chart, with its accounts and roles in the cluster."""
    (ray_cluster,) = [each for each in definitions() if each["spec"]["names"]["kind"] == "RayCluster"]
    breakable.apply("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", ray_cluster)
    for name in (HOME, SERVED):
        breakable.apply("/api/v1/namespaces", obj("v1", "Namespace", name))
    values = ("--set", f"{MODES[request.param]},engine.cache.claim=weights")
    with rights_of(breakable, helm, HOME, *values):
        wait_for(partial(served, breakable))
        breakable.apply(f"{PENSTOCK}/acceleratorclasses", CLASS)
        yield values


@pytest.fixture
def start(breakable, helm, arguments, tmp_path):
    """Starts what a pod of the chart starts, as a process with that pod's variables and its account's token."""
    objects = helm.render(*arguments, namespace=HOME)
    pods = dict(workloads(objects))
    for each in objects:
        if each["kind"] == "Deployment":  # for the release, which ends the operator's
            breakable.apply(f"/apis/apps/v1/namespaces/{HOME}/deployments", each)
    for name in ("pepper", "token"):
        (tmp_path / name).write_text("0123456789abcdef0123456789abcdef")

    def run(workload, module, prefix, **own):
        pod = pods[workload]["spec"]
        account = pod["serviceAccountName"]
        kubeconfig = breakable.kubeconfig(account, token=breakable.service_account_token(HOME, account))
        variables = {each["name"]: each["value"] for each in pod["containers"][0]["env"] if "value" in each}
        told = {name: value for name, value in variables.items() if not name.endswith(ELSEWHERE)}
        own = {name.format(kubeconfig=kubeconfig): value for name, value in own.items()}
        told |= {
            prefix + name: str(value).format(kubeconfig=kubeconfig, folder=tmp_path) for name, value in own.items()
        }
        environment = {"PATH": os.environ["PATH"], **told}
        log = tmp_path / f"{account}.log"
        with log.open("wb") as out:
            process = subprocess.Popen([sys.executable, "-m", module], env=environment, stdout=out, stderr=out)
        return process, log

    return run


@contextlib.contextmanager
def ending(process):
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def operator_options(port):
    return {
        "NAMESPACE": HOME,
        "POD_NAME": "penstock-operator-0",
        "ACCESS_KUBECONFIG": "{kubeconfig}",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": port,
        "PEPPER_FILE": "{folder}/pepper",
        "GATEWAY_TOKEN_FILE": "{folder}/token",
        "SPOOL_DIRECTORY": "{folder}/spool",
    }


def refused_calls(page):
    return [
        line
        for line in page.splitlines()
        if line.startswith("penstock_operator_api_call_seconds_count") and 'code="403"' in line
    ]


def test_operator_gateway_and_release_are_refused_nothing(breakable, helm, arguments, start):
    operator_port, data_port, admin_port = free_ports(3)
    operator, log = start(
        "Deployment/penstock-operator", "penstock_operator", "PENSTOCK_OPERATOR_", **operator_options(operator_port)
    )
    with ending(operator), httpx2.Client(trust_env=False) as client:
        for collection, body in (
            (core(SERVED, "secrets"), KEYS),
            (ours(SERVED, "models"), TINY),
            (ours(SERVED, "routes"), ROUTE),
            (ours(SERVED, "tenants"), TENANT),
        ):
            breakable.apply(collection, body)

        def done():
            assert operator.poll() is None, log.read_text()
            held = breakable.call("GET", leases("penstock-operator"))["spec"].get("holderIdentity")
            routing = breakable.call("GET", core(SERVED, "configmaps"))["items"]
            model = breakable.call("GET", ours(SERVED, "models", "tiny"))
            tenant = breakable.call("GET", ours(SERVED, "tenants", "team"))
            clusters = breakable.call("GET", f"/apis/ray.io/v1/namespaces/{SERVED}/rayclusters")["items"]
            written = model.get("status", {}).get("conditions") and tenant.get("status", {}).get("conditions")
            finalizer = FINALIZER in model["metadata"].get("finalizers", ())
            return held == "penstock-operator-0" and routing and written and finalizer and clusters

        try:
            wait_for(quietly(done), within_s=60)
        except AssertionError:
            pytest.fail(log.read_text()[-6000:])
        gateway, gateway_log = start(
            "Deployment/penstock-gateway",
            "penstock_gateway",
            "PENSTOCK_GATEWAY_",
            KUBERNETES__KUBECONFIG="{kubeconfig}",
            KUBERNETES__CACHE_FILE="{folder}/known.json",
            DATA_HOST="127.0.0.1",
            DATA_PORT=data_port,
            ADMIN_HOST="127.0.0.1",
            ADMIN_PORT=admin_port,
            DEADLINES__DRAIN_DELAY_S=0,
            PEPPER_FILE="{folder}/pepper",
            ADMIN_TOKEN_FILE="{folder}/token",
            SPOOL_DIRECTORY="{folder}/gateway-spool",
        )
        with ending(gateway):
            key = {"authorization": "Bearer sk-test-key-with-enough-bytes"}

            def listed():
                answer = client.get(f"http://127.0.0.1:{data_port}/v1/models", headers=key)
                return answer.status_code == 200 and {each["id"] for each in answer.json()["data"]} >= {"tiny"}

            try:
                wait_for(quietly(listed), within_s=30)
            except AssertionError:
                pytest.fail(gateway_log.read_text()[-6000:])
            assert "forbidden" not in gateway_log.read_text().lower()
            test = next(each for each in helm.render(*arguments, namespace=HOME) if each["kind"] == "Pod")
            (container,) = test["spec"]["containers"]
            script = container["command"][-1].replace(
                f"http://penstock-gateway.{HOME}.svc:80", f"http://127.0.0.1:{data_port}"
            )
            tried = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
            assert tried.returncode == 0, tried.stderr
            assert "/v1/models 401" in tried.stdout, "a Tenant has a key, and helm test has none"
        page = client.get(f"http://127.0.0.1:{operator_port}/metrics").text
        assert refused_calls(page) == []
        assert "penstock_operator_api_call_seconds_count" in page
        assert "forbidden" not in log.read_text().lower()
    assert operator.returncode == 0, log.read_text()[-6000:]
    release, release_log = start(
        "Job/penstock-release",
        "penstock_operator.release",
        "PENSTOCK_OPERATOR_",
        NAMESPACE=HOME,
        ACCESS_KUBECONFIG="{kubeconfig}",
    )
    with ending(release):
        assert release.wait(60) == 0, release_log.read_text()
    said = release_log.read_text()
    assert "Deployment rbac-home/penstock-operator: scaled to 0" in said
    assert "let 1 Model go" in said
    assert "still running, and paid for: 1" in said
    assert "could not" not in said
    assert "were not looked at" not in said
    assert not breakable.call("GET", ours(SERVED, "models", "tiny"))["metadata"].get("finalizers")


def quietly(condition):
    """A condition that does not hold while what it asks does not answer."""

    def asked():
        try:
            return condition()
        except (RuntimeError, httpx2.HTTPError):
            return False

    return asked
