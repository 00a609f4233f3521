"""The operator's process as a whole: `python -m penstock_operator` on a real API server, Ray Serve played beside it."""

import json
import os
import signal
import subprocess
import sys
import time

import httpx2
import msgspec
import pytest

from penstock.api.crd import CRD_KINDS, custom_resource_definition
from penstock.control.status import ModelStatus
from penstock_kube.config import Access
from penstock_kube.people.answers import LeaderModels
from tests.controlplane.test_crds import collection, install
from tests.support.control_plane import control_plane, free_ports
from tests.support.kuberay import OPEN_DEFINITION, kuberay
from tests.support.serve_api import serve_api

pytestmark = pytest.mark.controlplane

PREFIX = "PENSTOCK_OPERATOR_"
SPACE = "team-a"
PRICED_CPU = {
    "metadata": {"name": "cpu"},
    "spec": {"vendor": "cpu", "memory": "8Gi", "resourceName": "cpu", "price": {"onDemandPerHour": "0.10"}},
}


@pytest.fixture(scope="module")
def empty():
    """A control plane without any definition of ours or KubeRay's."""
    with control_plane() as plane:
        for name in ("penstock", SPACE):
            plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        yield plane


class Process:
    """One operator process."""

    def __init__(self, plane, folder, name="penstock-operator-0", **settings):
        folder.mkdir(parents=True, exist_ok=True)
        (self.port,) = free_ports(1)
        pepper = folder / "pepper"
        pepper.write_bytes(b"p" * 32)
        values = {
            "ACCESS_KUBECONFIG": plane.kubeconfig(),
            "POD_NAME": name,
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": self.port,
            "SPOOL_DIRECTORY": folder / "spool",
            "PEPPER_FILE": pepper,
            "TICK_S": 0.2,
            "STATUS_PERIOD_S": 1,
            "LEASE__DURATION_S": 4,
            "LEASE__RENEW_DEADLINE_S": 3,
            "LEASE__RETRY_S": 0.5,
            **settings,
        }
        environment = {f"{PREFIX}{key}": str(value) for key, value in values.items()}
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "penstock_operator"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )

    def get(self, path):
        return httpx2.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=5.0)

    def until(self, check, within_s=40.0):
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            try:
                if found := check():
                    return found
            except (httpx2.HTTPError, RuntimeError):
                pass
            time.sleep(0.1)
        pytest.fail(self.log.read_text()[-4000:])

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def start(empty, tmp_path):
    started = []

    def begin(**settings):
        started.append(Process(empty, tmp_path, **settings))
        return started[-1]

    yield begin
    for process in started:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait(20)


def test_readiness_says_which_definitions_are_missing_and_how_to_get_them(start):
    operator = start()
    page = operator.until(lambda: (text := operator.get("/readyz").text).count("has no") >= 5 and text)
    assert "models.penstock.dev: install the chart" in page
    assert "rayclusters.ray.io: install KubeRay" in page
    assert operator.get("/livez").status_code == 200
    assert operator.stop() == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"HTTP_PORT": "x"}, "PENSTOCK_OPERATOR_HTTP_PORT"),
        ({"LEASE__RETRY_S": "20"}, "PENSTOCK_OPERATOR_LEASE: retry_s 20"),
        ({"RAY__IDLE_TIMEOUT_S": "0"}, "PENSTOCK_OPERATOR_RAY__IDLE_TIMEOUT_S"),
        ({"ACCESS_KUBECONFIG": "/nowhere"}, "the kubeconfig /nowhere is not there"),
        ({"REDIS_URL": "http://x"}, "PENSTOCK_OPERATOR_REDIS_URL_FILE: Value error, the URL of Redis must look like"),
    ],
)
def test_a_wrong_setting_ends_the_process_with_its_name(start, settings, said):
    operator = start(**settings)
    assert operator.process.wait(30) == 2
    assert said in operator.log.read_text()


@pytest.fixture
def served(empty):
    """The control plane with definitions, KubeRay and Serve."""
    for kind in CRD_KINDS:
        install(empty, custom_resource_definition(kind))
    install(empty, OPEN_DEFINITION)
    with serve_api() as serve, kuberay(Access(str(empty.kubeconfig())), serve):
        yield serve


def test_six_lines_are_served_and_the_leader_tells_of_it(empty, served, start):
    operator = start(RAY__DASHBOARD_URL=served.url)
    operator.until(lambda: operator.get("/readyz").status_code == 200)
    empty.apply("/apis/penstock.dev/v1alpha1/acceleratorclasses", {**kind("AcceleratorClass"), **PRICED_CPU})
    model = {**kind("Model"), "metadata": {"name": "tiny"}, "spec": {"source": "tiny://llama", "accelerator": "cpu:1"}}
    empty.apply(collection("Model", namespace=SPACE), model)

    path = f"{collection('Model', namespace=SPACE)}/tiny"
    operator.until(lambda: empty.call("GET", path).get("status", {}).get("ready") == "1/1")
    found = operator.get(f"/api/status?namespace={SPACE}")
    assert found.status_code == 200
    told = msgspec_models(found.content)
    assert [(item.namespace, item.name, item.ready) for item in told] == [(SPACE, "tiny", 1)]
    assert operator.get("/api/status?namespace=other").json()["models"] == []
    decisions = operator.until(lambda: operator.get(f"/api/decisions/{SPACE}/tiny?last=5").json()["decisions"])
    assert decisions[-1]["model"] == "tiny"
    assert operator.get(f"/api/decisions/{SPACE}/tiny?last=x").status_code == 400
    missing = operator.get(f"/api/decisions/{SPACE}/nope")
    assert missing.status_code == 404
    assert "kubectl get models" in missing.json()["error"]["message"]

    standby = start(name="penstock-operator-1", RAY__DASHBOARD_URL=served.url)
    standby.until(lambda: standby.get("/readyz").status_code == 200)
    refused = standby.until(lambda: (a := standby.get("/api/status")).status_code == 503 and a)
    standby.until(lambda: "penstock-operator-0" in standby.get("/api/status").json()["error"]["message"])
    assert "does not lead" in refused.json()["error"]["message"] or "no operator leads" in refused.text

    empty.call("DELETE", path)
    operator.until(lambda: not empty.call("GET", collection("Model", namespace=SPACE))["items"])
    assert operator.stop() == 0
    standby.until(lambda: standby.get("/api/status").status_code == 200)
    lines = [json.loads(line) for line in operator.log.read_text().splitlines()]
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
    assert [line["message"] for line in lines if line["level"] == "error"] == []


def kind(name):
    return {"apiVersion": "penstock.dev/v1alpha1", "kind": name}


def msgspec_models(content) -> tuple[ModelStatus, ...]:
    return msgspec.json.decode(content, type=LeaderModels).models
