"""`penstock status|why|cost|plan` and `kubectl penstock` against a real API server, whose proxy leads to answers."""

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from penstock.cli import main
from penstock.control.status import Condition, ConditionType, ModelStatus, ReplicaStatus
from penstock.cost.report import Account, CostReport, PerMillionTokens
from penstock.scaling.decision import Decision, Direction
from penstock.scaling.snapshot import ReplicaPhase
from tests.support import binaries
from tests.support.control_plane import control_plane
from tests.support.serve_api import own_address

pytestmark = pytest.mark.controlplane

HOME = "penstock"
TEAM = "people-team"
OTHER = "people-other"
RULES = {
    "viewer": (
        {"apiGroups": ["penstock.dev"], "resources": ["*"], "verbs": ["get", "list"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/proxy", "services/proxy"], "verbs": ["get"]},
    ),
    "visitor": ({"apiGroups": ["penstock.dev"], "resources": ["*"], "verbs": ["get", "list"]},),
}
LIVE = ModelStatus(
    name="tiny",
    namespace=TEAM,
    target=2,
    ready=1,
    starting=1,
    draining=0,
    replicas=(ReplicaStatus(id="r1", variant="tiny--cpu--1", state=ReplicaPhase.READY, since_s=1.0),),
    conditions=(
        Condition(type=ConditionType.READY, status=True, reason="Serving", message="1 of 2 replicas", since_s=1.0),
    ),
    why="kv",
    kv_usage=0.96,
    queue=7,
    prompt_tokens_per_s=1200.0,
    completion_tokens_per_s=34.0,
)
DECISION = Decision(
    model="tiny", at_s=100.0, target_before=1, target_after=2, direction=Direction.UP, ruling="kv", reason="Up to 2."
)  # fmt: skip
NO_RATES = PerMillionTokens(prompt=None, cached=None, completion=None, blended=0.25, blended_allocated=1.5)
ACCOUNT = Account(usd=1.25, usd_by_kind={}, tokens={"prompt": 5}, per_million_tokens=NO_RATES)
REPORT = CostReport(
    since_s=None, until_s=9.0, paid_usd=2.0, tenants_usd=1.25, idle_usd=0.75, overhead_usd=0.0, pending_usd=0.0,
    unattributed_usd=0.0, drift_ratio=0.0, idle_by_cause_usd={"headroom": 0.75}, overhead_by_cause_usd={},
    total=ACCOUNT, by_tenant={"acme": ACCOUNT}, by_model={}, lines=(), faults={},
)  # fmt: skip


class Processes:
    """What the operator and the ledger would answer, on an address that the API server's proxy takes."""

    def __init__(self):
        self.asked = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                status, body = outer.answer(self.path)
                data = msgspec.json.encode(body)
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer((own_address(), 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def answer(self, path):
        path, _, _ = path.partition("?")
        match path.strip("/").split("/"):
            case ["api", "status"]:
                return 200, {"at_s": time.time(), "models": [LIVE]}
            case ["api", "decisions", _, "tiny"]:
                return 200, {"decisions": [DECISION]}
            case ["report"]:
                return 200, REPORT
            case _:
                return 404, {"error": {"message": f"nothing at {path}"}}

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def plane():
    with control_plane(users=tuple(RULES)) as running:
        install(running)
        yield running


@pytest.fixture(scope="module")
def processes(plane):
    running = Processes()
    place(plane, running.port)
    yield running
    running.close()


def install(plane):
    """Definitions, Models, and roles."""
    crds = subprocess.run([sys.executable, "-m", "penstock", "crds"], check=True, capture_output=True, text=True).stdout
    kubectl(plane, "apply", "--server-side", "-f", "-", stdin=crds)
    kubectl(plane, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    for user, rules in RULES.items():
        plane.grant(user, *rules)
    for namespace in (HOME, TEAM, OTHER):
        plane.apply("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    classes = [{"name": "big", "memory": "80Gi"}, {"name": "small", "memory": "4Gi"}]
    for one in classes:
        spec = {
            "vendor": "nvidia", "memory": one["memory"], "memoryBandwidth": "3350G", "bf16Flops": "989T",
            "resourceName": "nvidia.com/gpu", "price": {"onDemandPerHour": "2.00"},
        }  # fmt: skip
        kubectl(plane, "apply", "-f", "-", stdin=dumped("AcceleratorClass", {"name": one["name"]}, spec))
    for namespace, name, where in ((TEAM, "tiny", "big:1"), (TEAM, "huge", "small:1"), (OTHER, "else", "big:1")):
        spec = {"preset": "llama-3.1-8b", "accelerator": where}
        kubectl(plane, "apply", "-f", "-", stdin=dumped("Model", {"namespace": namespace, "name": name}, spec))
    status = {
        "replicas": 2, "readyReplicas": 1, "why": "queue", "load": {"kvCachePercent": 41, "timeToFirstToken": "312ms"},
        "cost": {"perMillionTokens": "0.42", "idlePercent": 17},
        "conditions": [
            {
                "type": "Degraded", "status": "True", "reason": "NoNodes", "message": "no node has a GPU; add one",
                "lastTransitionTime": "2026-11-24T01:00:00Z",
            }
        ],
    }  # fmt: skip
    path = f"/apis/penstock.dev/v1alpha1/namespaces/{TEAM}/models/tiny/status"
    plane.call("PATCH", path, {"status": status}, kind="application/merge-patch+json")


def dumped(kind, metadata, spec):
    return json.dumps({"apiVersion": "penstock.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})


def place(plane, port):
    """The leader's Lease and pod, and the ledger's Service, all leading to one server on this machine."""
    lease = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "penstock-operator"},
        "spec": {"holderIdentity": "operator-0", "leaseDurationSeconds": 15},
    }  # fmt: skip
    plane.apply(f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases", lease)
    core = f"/api/v1/namespaces/{HOME}"
    plane.apply(
        f"{core}/serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    )
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator-0"},
        "spec": {"containers": [{"name": "operator", "image": "penstock-operator"}]},
    }  # fmt: skip
    plane.apply(f"{core}/pods", pod)
    status = {"status": {"phase": "Running", "podIP": own_address(), "podIPs": [{"ip": own_address()}]}}
    plane.call("PATCH", f"{core}/pods/operator-0/status", status, kind="application/merge-patch+json")
    ports = [{"name": "http", "port": 8090, "targetPort": port}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "penstock-ledger"}, "spec": {"ports": ports}}
    plane.apply(f"{core}/services", service)
    # The proxy reads Endpoints, which a controller makes where one runs, and goes to addresses of pods only.
    address = {"ip": own_address(), "targetRef": {"kind": "Pod", "namespace": HOME, "name": "operator-0"}}
    subset = {"addresses": [address], "ports": [{"name": "http", "port": port}]}
    endpoints = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "penstock-ledger"}, "subsets": [subset]}
    plane.apply(f"{core}/endpoints", endpoints)


def kubectl(plane, *arguments, user="admin", stdin=None, env=None, check=True):
    result = subprocess.run(
        [str(binaries.find("kubectl")), *arguments],
        env={**os.environ, "KUBECONFIG": str(plane.kubeconfig(user)), **(env or {})},
        input=stdin, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert not check or result.returncode == 0, result.stderr
    return result


def penstock(plane, *arguments, user="viewer", port=None):
    environment = {"KUBECONFIG": str(plane.kubeconfig(user)), "COLUMNS": "200", "NO_COLOR": "1", "PENSTOCK_STATE": None}
    if port is not None:
        environment["PENSTOCK_CLUSTER_OPERATOR_PORT"] = str(port)
    return CliRunner().invoke(main, arguments, env=environment)


def line_of(output, name):
    return next(line for line in output.splitlines() if line.split()[:1] == [name] or line.split()[1:2] == [name])


def test_status_is_the_leaders_own_where_it_answers(plane, processes):
    result = penstock(plane, "status", "-n", TEAM, port=processes.port)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert line_of(result.stdout, "tiny").split()[1:6] == ["1/2", "96%", "7", "-", "1,234"]
    assert "r1" in result.stdout
    assert "huge" in result.stdout  # the leader does not know it yet; its object is there
    assert "else" not in result.stdout
    assert any(path == f"/api/status?namespace={TEAM}" for path in processes.asked)


def test_status_falls_back_to_what_objects_say_and_says_so(plane, processes):
    result = penstock(plane, "status", "-n", TEAM, user="visitor", port=processes.port)
    assert result.exit_code == 0
    assert "you may not get Lease penstock/penstock-operator" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert line_of(result.stdout, "tiny").split()[1:6] == ["1/1", "41%", "0", "312ms", "-"]
    assert "NoNodes: no node has a GPU; add one" in result.stdout


def test_an_operator_that_is_down_is_named(plane, processes):
    result = penstock(plane, "status", "-n", TEAM, port=1)
    assert result.exit_code == 0
    assert "the operator does not answer" in result.stderr
    assert "41%" in result.stdout


def test_all_namespaces_are_told_apart(plane, processes):
    result = penstock(plane, "status", "-A", port=processes.port)
    assert result.stdout.splitlines()[0].split()[:2] == ["NAMESPACE", "MODEL"]
    assert line_of(result.stdout, "else").split()[0] == OTHER
    data = json.loads(penstock(plane, "status", "-A", "-o", "json", port=processes.port).stdout)
    assert [(one["namespace"], one["name"]) for one in data["models"]] == [
        (OTHER, "else"), (TEAM, "huge"), (TEAM, "tiny"),
    ]  # fmt: skip


def test_an_empty_namespace_says_where_to_look(plane, processes):
    result = penstock(plane, "status", "-n", "default", port=processes.port)
    assert result.exit_code == 0
    assert "no Models in namespace default; -A looks into all" in result.stderr


def test_why_is_the_leaders_record_or_else_the_status(plane, processes):
    told = penstock(plane, "why", "tiny", "-n", TEAM, "--last", "3", port=processes.port)
    assert told.exit_code == 0
    assert "tiny: Up to 2." in told.stdout
    assert f"/api/decisions/{TEAM}/tiny?last=3" in processes.asked
    unseen = penstock(plane, "why", "huge", "-n", TEAM, port=processes.port)
    assert unseen.exit_code == 0
    assert f"the operator has yet to see {TEAM}/huge" in unseen.stderr
    read = penstock(plane, "why", "tiny", "-n", TEAM, user="visitor")
    assert read.exit_code == 0
    assert "you may not" in read.stderr
    assert "tiny: 1 of 1 replicas ready; queue" in read.stdout
    assert "no node has a GPU; add one" in read.stdout


def test_cost_is_the_ledgers_report_or_else_the_statuses(plane, processes):
    told = penstock(plane, "cost", "-n", TEAM, "--since", "2h")
    assert told.exit_code == 0, told.stderr
    assert "acme" in told.stdout
    assert "idle: headroom" in told.stdout
    assert any(path.startswith("/report?since=") for path in processes.asked)
    read = penstock(plane, "cost", "-n", TEAM, user="visitor")
    assert read.exit_code == 0
    assert "the ledger cannot be asked: you may not get services/proxy" in read.stderr
    assert line_of(read.stdout, f"{TEAM}/tiny").split() == [f"{TEAM}/tiny", "0.42", "17%"]


def test_a_receipt_is_the_ledgers_or_nothing(plane, processes):
    unknown = penstock(plane, "cost", "receipt", "req-9", "-n", TEAM)
    assert unknown.exit_code == 2
    assert "no such request" in unknown.stderr
    forbidden = penstock(plane, "cost", "receipt", "req-9", "-n", TEAM, user="visitor")
    assert forbidden.exit_code == 2
    assert "you may not get services/proxy" in forbidden.stderr


def test_plan_uses_the_clusters_own_classes(plane):
    fits = penstock(plane, "plan", "tiny", "-n", TEAM)
    assert fits.exit_code == 0, fits.stderr
    assert "tiny on big:1" in fits.stdout
    too_large = penstock(plane, "plan", "huge", "-n", TEAM)
    assert too_large.exit_code == 2
    assert "does not fit" in too_large.stdout


@pytest.mark.parametrize("command", [("why", "absent"), ("plan", "absent")], ids=" ".join)
def test_a_model_that_is_not_there_is_named_with_those_that_are(plane, command):
    result = penstock(plane, *command, "-n", TEAM)
    assert result.exit_code == 2
    assert f"no Model 'absent' in namespace {TEAM}: it has huge, tiny" in result.stderr


def test_no_rights_and_no_answer_are_told_apart(plane, tmp_path):
    wrong = json.loads(plane.kubeconfig("viewer").read_text())
    wrong["users"][0]["user"]["token"] = "wrong"
    (tmp_path / "wrong").write_text(json.dumps(wrong))
    unknown = penstock(plane, "status", "--kubeconfig", str(tmp_path / "wrong"), "-n", TEAM)
    assert unknown.exit_code == 2
    assert "does not know you" in unknown.stderr
    config = json.loads(plane.kubeconfig().read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "gone").write_text(json.dumps(config))
    gone = penstock(plane, "status", "--kubeconfig", str(tmp_path / "gone"))
    assert gone.exit_code == 2
    assert "does not answer" in gone.stderr


def test_kubectl_finds_the_plugin(plane, processes):
    scripts = Path(sys.executable).parent
    assert (scripts / "kubectl-penstock").exists()
    environment = {
        "PATH": f"{scripts}:{os.environ['PATH']}", "PENSTOCK_CLUSTER_OPERATOR_PORT": str(processes.port),
        "COLUMNS": "200",
    }  # fmt: skip
    result = kubectl(plane, "penstock", "status", "-n", TEAM, user="viewer", env=environment)
    assert line_of(result.stdout, "tiny").split()[1:3] == ["1/2", "96%"]
    wrong = kubectl(plane, "penstock", "why", "absent", "-n", TEAM, user="viewer", env=environment, check=False)
    assert wrong.returncode == 2


def test_without_penstock_the_cluster_says_so():
    with control_plane() as bare:
        result = penstock(bare, "status", user="admin")
        assert result.exit_code == 2
        assert "Penstock is not installed there" in result.stderr
