"""A node: every program of it started in the right order, each waited for until it says that it is ready."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import binaries, kuberay_crds
from tests.support.control_plane import Part
from tests.support.node import credentials, images
from tests.support.node.credentials import NODE_NAME, Credentials
from tests.support.node.init import ADDRESS
from tests.support.node.namespaces import Namespaces, cgroup, join_programs, namespaces
from tests.support.node.programs import CONTAINERD_SOCKET, Folders, Programs

COREDNS_RULES = (
    {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
)
CGROUP = "penstock-node"
PREFIX = "penstock-node-"
FETCH = "import sys, urllib.request as u; print(u.build_opener(u.ProxyHandler({})).open(sys.argv[1], timeout=5).status)"


class CommandError(RuntimeError):
    """A command within the node ended with an error; the message has its output."""


@dataclass
class Node:
    """A running node."""

    namespaces: Namespaces
    credentials: Credentials
    folders: Folders
    parts: list[Part] = field(default_factory=list)
    started_s: dict[str, float] = field(default_factory=dict)
    """How long each step of the start took."""

    def enter(self, *command: str | Path, folder: Path | None = None) -> list[str]:
        """Return the command line that runs a command within the node, for `subprocess`."""
        return self.namespaces.enter(*command, folder=folder)

    def environment(self) -> dict[str, str]:
        """Return the environment of commands within: the administrator's kubeconfig, kubectl and helm, no proxy."""
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        programs = sorted({str(binaries.find(program).parent) for program in ("kubectl", "helm")})
        path = os.pathsep.join([*programs, kept["PATH"]])
        return {**kept, "KUBECONFIG": str(self.credentials.kubeconfig()), "PATH": path}

    def run(
        self, *command: str | Path, given: str | None = None, within_s: float = 60.0, folder: Path | None = None
    ) -> str:
        """Run a command within the node and return its standard output.

        Raises:
            CommandError: it ended with an error or took too long.
        """
        shown = " ".join(map(str, command))
        try:
            done = subprocess.run(
                self.enter(*command, folder=folder),
                input=given,
                timeout=within_s,
                env=self.environment(),
                capture_output=True,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"`{shown}` did not end within {within_s:.0f} s") from error
        if done.returncode != 0:
            output = (done.stdout + done.stderr)[-4000:]
            raise CommandError(f"`{shown}` ended with {done.returncode}:\n{output}")
        return done.stdout

    def kubectl(self, *arguments: str, given: str | None = None, within_s: float = 60.0) -> str:
        """Run kubectl as the administrator and return what it prints."""
        return self.run(binaries.find("kubectl"), *arguments, given=given, within_s=within_s)

    def get(self, *arguments: str) -> Any:
        """Return what `kubectl get ... -o json` prints, parsed."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects on the server's side."""
        given = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=given)

    def answers(self, url: str) -> bool:
        """Tell whether a URL answers with a good status to a caller within the node."""
        with contextlib.suppress(CommandError):
            return self.run(sys.executable, "-I", "-c", FETCH, url, within_s=20.0).strip() == "200"
        return False

    def wait(self, what: str, check: Callable[[], Any], *, within_s: float, every_s: float = 0.25) -> Any:
        """Call `check` until it returns something true, and return that.

        Raises:
            TimeoutError: it did not in time; the message has the end of every log.
            RuntimeError: a program of the node ended meanwhile.
        """
        deadline = time.monotonic() + within_s
        while not (found := check()):
            for part in self.parts:
                if part.process is not None and part.process.poll() is not None:
                    raise RuntimeError(f"{part.name} ended with {part.process.returncode}:\n{part.tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {within_s:.0f} s; logs are in {self.folders.logs}")
            time.sleep(every_s)
        return found

    def import_images(self, layouts: Sequence[images.Layout]) -> None:
        """Bring images into the node's containerd; those it has are left alone."""
        images.bring_in(layouts, self.enter("ctr", "-a", CONTAINERD_SOCKET, "-n", "k8s.io"))

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a program within the node; it ends with the node."""
        within = self.enter("env", *_assignments(self.environment()), *command)
        part = Part(name, [*join_programs(CGROUP), *within], self.folders.logs / f"{name}.log")
        part.start()
        self.parts.append(part)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Take the time of a step."""
        started_s = time.monotonic()
        yield
        self.started_s[name] = round(time.monotonic() - started_s, 1)


@contextlib.contextmanager
def node(logs: Path, layouts: Sequence[images.Layout] = ()) -> Iterator[Node]:
    """Start a node, and end all of it on the way out. One at a time on a machine: a second waits for the first.

    Args:
        logs: folder for each program's and each pod's log; emptied first, and kept.
        layouts: images that the node shall have.

    Raises:
        UnsupportedError: this machine cannot hold one; the message names the remedy.
    """
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    store = images.cache() / "containerd"
    store.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as ending:
        lock = ending.enter_context((images.cache() / ".lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        volatile = Path(tempfile.mkdtemp(prefix=PREFIX))
        ending.callback(shutil.rmtree, volatile, ignore_errors=True)
        root = ending.enter_context(cgroup(CGROUP))
        parts: list[Part] = []
        ending.callback(_collect, parts)
        within = ending.enter_context(namespaces())
        folders = Folders(volatile, logs, store)
        made = Node(within, credentials.create(volatile), folders, parts)
        _start(made, Programs(folders, made.credentials, root), layouts)
        yield made


def _collect(parts: Sequence[Part]) -> None:
    """Wait for the programs, which ended with their namespaces."""
    for part in parts:
        part.stop(kill=True)


def _start(node: Node, programs: Programs, layouts: Sequence[images.Layout]) -> None:
    with node.step("control plane"):
        node.start("etcd", programs.etcd())
        node.start("kube-apiserver", programs.apiserver())
        node.start("containerd", programs.containerd())
        node.wait("kube-apiserver is ready", lambda: _ready(node), within_s=60)
        _grant_coredns(node)
    with node.step("images"):
        node.wait("containerd answers", lambda: _succeeds(node, "ctr", "-a", CONTAINERD_SOCKET, "version"), within_s=60)
        node.import_images(layouts)
    with node.step("node"):
        node.start("kube-controller-manager", programs.controller_manager())
        node.start("kube-scheduler", programs.scheduler())
        node.start("kubelet", programs.kubelet())
        node.start("kube-proxy", programs.proxy())
        node.start("coredns", programs.coredns())
        node.wait("the node is Ready", lambda: _node_is_ready(node), within_s=120)
        node.wait("CoreDNS is ready", lambda: node.answers(f"http://{ADDRESS}:8181/ready"), within_s=60)
    with node.step("kuberay"):
        node.kubectl("apply", "--server-side", "-f", str(kuberay_crds.folder()))
        node.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s", within_s=70)
        node.start("kuberay-operator", programs.kuberay())
        node.wait("KubeRay is ready", lambda: node.answers(f"http://{ADDRESS}:8082/readyz"), within_s=60)


def _succeeds(node: Node, *command: str | Path) -> bool:
    with contextlib.suppress(CommandError):
        node.run(*command, within_s=10.0)
        return True
    return False


def _ready(node: Node) -> bool:
    with contextlib.suppress(CommandError):
        # The default service account comes from the controller-manager; RBAC's own roles come with readiness.
        return node.kubectl("get", "--raw", "/readyz", within_s=10) == "ok"
    return False


def _node_is_ready(node: Node) -> bool:
    with contextlib.suppress(CommandError):
        conditions = node.get("node", NODE_NAME)["status"]["conditions"]
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return False


def _grant_coredns(node: Node) -> None:
    group = "rbac.authorization.k8s.io"
    named = {"apiVersion": f"{group}/v1", "metadata": {"name": "system:coredns"}}
    subjects = [{"apiGroup": group, "kind": "User", "name": "system:coredns"}]
    reference = {"apiGroup": group, "kind": "ClusterRole", "name": "system:coredns"}
    node.apply(
        {**named, "kind": "ClusterRole", "rules": list(COREDNS_RULES)},
        {**named, "kind": "ClusterRoleBinding", "roleRef": reference, "subjects": subjects},
    )


def _assignments(environment: Mapping[str, str]) -> list[str]:
    return [f"{name}={environment[name]}" for name in ("PATH", "HOME") if name in environment]
