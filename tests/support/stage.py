"""A cluster with two operator processes that may be killed and frozen, KubeRay and Ray Serve played beside them.

A process that ends with code 1, as one does that lost its leadership, is started again, as the kubelet would.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from penstock.api.crd import CRD_KINDS, custom_resource_definition
from penstock.routing.published import CONFIG_KEY, CONFIG_MAP
from penstock_kube.config import Access
from penstock_kube.resources import CONFIG_MAPS, ENDPOINT_SLICES, LEASES, MODELS, RAY_CLUSTERS, Key, Kind
from tests.support import kuberay_crds
from tests.support.control_plane import ControlPlane, control_plane, free_ports
from tests.support.kuberay import KubeRay, kuberay
from tests.support.serve_api import ServeApi, serve_api

NAMES = ("operator-0", "operator-1")
HOME = "penstock"
LEASE = "penstock-operator"
CLASS = "fault-cpu"
_BYTECODE = Path(tempfile.gettempdir()) / f"penstock-bytecode-{os.getuid()}"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_CLASS_SPEC = {"vendor": "cpu", "memory": "8Gi", "resourceName": "cpu", "price": {"onDemandPerHour": "0.10"}}


class OperatorProcess:
    """One `python -m penstock_operator`."""

    def __init__(self, plane: ControlPlane, name: str, folder: Path, dashboard_url: str, lease_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (self.port,) = free_ports(1)
        self.name = name
        self.log = folder / "log"
        self.restarts = 0
        """Times that it had ended by itself and was started again."""
        pepper = folder.parent / "pepper"
        pepper.write_bytes(b"p" * 32)
        values = {
            "ACCESS_KUBECONFIG": plane.kubeconfig(name),
            "NAMESPACE": HOME,
            "POD_NAME": name,
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": self.port,
            "SPOOL_DIRECTORY": folder / "spool",
            "PEPPER_FILE": pepper,
            "RAY__DASHBOARD_URL": dashboard_url,
            "TICK_S": 0.2,
            "STATUS_PERIOD_S": 1,
            "LEASE__DURATION_S": round(lease_s),
            "LEASE__RENEW_DEADLINE_S": 0.75 * lease_s,
            "LEASE__RETRY_S": 0.125 * lease_s,
        }
        # Modules compiled once: each start would take seconds where the environment forbids to keep what is compiled.
        bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(_BYTECODE)}
        settings = {f"PENSTOCK_OPERATOR_{key}": str(value) for key, value in values.items()}
        self._environment = {**os.environ, **bytecode, **settings}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "penstock_operator"]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=self._environment)

    def keep_running(self) -> None:
        """Start it again if it has lost its leadership; any other end is a crash, and fails."""
        if self.process is None or (code := self.process.poll()) is None:
            return
        assert code == 1, f"{self.name} crashed with {code}:\n{self.log.read_text()[-4000:]}"
        self.restarts += 1
        self.start()

    def kill(self) -> None:
        """End it at once, as when its node dies; it stays away until `start`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def is_ready(self) -> bool:
        """Return whether its readiness probe succeeds."""
        return httpx2.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False, timeout=5.0).status_code == 200

    def bugs(self) -> list[str]:
        """Return what it logged as errors, but for having lost its leadership."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        errors = [line for line in lines if line["level"] == "error"]
        return [line["message"] for line in errors if "lost the lease" not in line["message"]]


class Stage:
    """The cluster and all that plays on it."""

    def __init__(
        self, plane: ControlPlane, serve: ServeApi, ray: KubeRay, folder: Path, *, operators: int, lease_s: float
    ) -> None:
        self.plane = plane
        self.serve = serve
        self.ray = ray
        self.operators = {
            name: OperatorProcess(plane, name, folder / name, serve.url, lease_s) for name in NAMES[:operators]
        }
        self._audit = folder / "audit.log"

    def until(self, check: Callable[[], Any], within_s: float = 60.0) -> Any:
        """Return what `check` returns once that is true and nothing of it fails; keep operators running meanwhile."""
        deadline_s, last = time.monotonic() + within_s, "it was false"
        while time.monotonic() < deadline_s:
            for operator in self.operators.values():
                operator.keep_running()
            try:
                if found := check():
                    return found
            except (httpx2.HTTPError, RuntimeError, AssertionError, KeyError, IndexError, ValueError) as error:
                last = f"{type(error).__name__}: {error}"
            time.sleep(0.1)
        logs = "\n".join(f"--- {one.name}\n{one.log.read_text()[-2500:]}" for one in self.operators.values())
        raise AssertionError(f"not within {within_s:g} s, {last}\n{logs}")

    def namespace(self, name: str) -> str:
        self.plane.apply("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.plane.call("GET", kind.path(namespace, name))
        except RuntimeError as error:
            if ": 404 " in str(error):
                return None
            raise
        return found

    def all(self, kind: Kind, namespace: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.plane.call("GET", kind.path(namespace))["items"]
        return items

    def apply(self, kind: Kind, namespace: str, name: str, **fields: Any) -> dict[str, Any]:
        metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **fields}
        applied: dict[str, Any] = self.plane.apply(kind.path(namespace), body)
        return applied

    def patch(self, kind: Kind, namespace: str, name: str, body: Any, subresource: str = "") -> None:
        path = kind.path(namespace, name, subresource)
        self.plane.call("PATCH", path, body, kind="application/merge-patch+json")

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        self.plane.call("DELETE", kind.path(namespace, name))

    def model(self, namespace: str, name: str, **spec: Any) -> None:
        source = {} if "preset" in spec else {"source": "tiny://llama"}
        self.apply(MODELS, namespace, name, spec={**source, "accelerator": f"{CLASS}:1", **spec})

    def condition(self, kind: Kind, namespace: str, name: str, type_: str = "Ready") -> tuple[str, str, str]:
        """Return status, reason and message, of the newest generation only."""
        obj = self.plane.call("GET", kind.path(namespace, name))
        said = {one["type"]: one for one in obj["status"]["conditions"]}[type_]
        assert said["observedGeneration"] == obj["metadata"]["generation"]
        return said["status"], said["reason"], said["message"]

    def is_ready(self, namespace: str, name: str, replicas: int = 1) -> bool:
        model = self.plane.call("GET", MODELS.path(namespace, name))
        return (
            self.condition(MODELS, namespace, name)[0] == "True"
            and model["status"]["readyReplicas"] == model["status"]["replicas"] == replicas
        )

    def ready(self, namespace: str, name: str, replicas: int = 1, within_s: float = 60.0) -> None:
        self.until(lambda: self.is_ready(namespace, name, replicas), within_s)

    def endpoints(self, namespace: str) -> dict[str, bool]:
        """Return whether each replica that gateways are told of is ready."""
        return {
            endpoint["hostname"]: endpoint["conditions"]["ready"]
            for item in self.all(ENDPOINT_SLICES, namespace)
            for endpoint in item.get("endpoints") or ()
        }

    def routing(self, namespace: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.plane.call("GET", CONFIG_MAPS.path(namespace, CONFIG_MAP))["data"][CONFIG_KEY]
        )
        return found

    def cluster(self, namespace: str) -> dict[str, Any]:
        """Return the namespace's one RayCluster that is not being deleted."""
        [found] = [c for c in self.all(RAY_CLUSTERS, namespace) if not c["metadata"].get("deletionTimestamp")]
        return found

    def puts(self, namespace: str) -> int:
        return self.serve.run(lambda: len(self.serve.serve(namespace).puts))

    @property
    def leader(self) -> OperatorProcess:
        """The process that holds the lease."""
        holder = self.plane.call("GET", LEASES.path(HOME, LEASE))["spec"].get("holderIdentity")
        return self.operators[holder]

    @property
    def standby(self) -> OperatorProcess:
        leader = self.leader
        return next(one for one in self.operators.values() if one is not leader)

    def writes(self, user: str) -> list[tuple[str, str]]:
        """Return moment and object of each write of a user, its lease and events left out."""
        found = []
        for line in self._audit.read_text().splitlines():
            event = json.loads(line)
            target = event.get("objectRef") or {}
            if event["user"]["username"] == user and target.get("resource") not in {"leases", "events"}:
                found.append((event["requestReceivedTimestamp"], f"{event['verb']} {target.get('resource')}"))
        return found


def _key(namespace: str, cluster: dict[str, Any]) -> Key:
    return Key(namespace, cluster["metadata"]["name"])


def cluster_key(stage: Stage, namespace: str) -> Key:
    """Return the key of a namespace's RayCluster."""
    return _key(namespace, stage.cluster(namespace))


def _audit_flags(folder: Path) -> list[str]:
    """Return flags that log the writes of the operators."""
    policy, log = folder / "policy.json", folder / "audit.log"
    log.touch()
    rule = {
        "level": "Metadata",
        "users": list(NAMES),
        "verbs": ["create", "update", "patch", "delete"],
        "omitStages": ["RequestReceived"],
    }
    rules = [rule, {"level": "None"}]
    policy.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))
    return [f"--audit-policy-file={policy}", f"--audit-log-path={log}"]


@contextlib.contextmanager
def stage(*, operators: int = 1, lease_s: float = 16.0) -> Iterator[Stage]:
    """Run all of it; end all of it on the way out.

    Args:
        operators: One or two of them.
        lease_s: How long a leader that shows no life is waited for. A short one makes a busy machine lose its leader.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-stage-")))
        flags = _audit_flags(folder)
        plane = stack.enter_context(control_plane(users=NAMES, apiserver_flags=flags))
        wanted = [one for one in kuberay_crds.definitions() if one["metadata"]["name"].startswith("rayclusters.")]
        for definition in (*map(custom_resource_definition, CRD_KINDS), *wanted):
            plane.apply(_DEFINITIONS, definition)
        for name in NAMES:
            plane.grant(name, {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})
        serve = stack.enter_context(serve_api())
        ray = stack.enter_context(kuberay(Access(str(plane.kubeconfig())), serve))
        running = Stage(plane, serve, ray, folder, operators=operators, lease_s=lease_s)
        running.namespace(HOME)
        running.until(lambda: plane.call("GET", MODELS.path()))
        running.apply(Kind("penstock.dev", "v1alpha1", "AcceleratorClass", "acceleratorclasses", False), "", CLASS,
                      spec=_CLASS_SPEC)  # fmt: skip
        for operator in running.operators.values():
            stack.callback(operator.kill)
            operator.start()
        running.until(lambda: running.leader, 90.0)
        yield running
