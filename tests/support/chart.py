"""The chart, rendered and installed by the real helm."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support import binaries
from tests.support.control_plane import ControlPlane

CHART = Path(__file__).parents[2] / "helm" / "penstock"
PERMUTATIONS = sorted((CHART / "ci").glob("*-values.yaml"))


@dataclass(frozen=True)
class Helm:
    """The program, with a folder of its own for what it remembers, and a cluster if one is named."""

    home: Path
    kubeconfig: Path | None = None

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command whose end the caller waits for."""
        folders = {f"HELM_{name}_HOME": str(self.home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        kubeconfig = {} if self.kubeconfig is None else {"KUBECONFIG": str(self.kubeconfig)}
        return subprocess.Popen(
            [str(binaries.find("helm")), *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **folders, **kubeconfig},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is."""
        process = self.start(*arguments)
        output, error = process.communicate(timeout=180)
        return subprocess.CompletedProcess(process.args, process.returncode, output, error)

    def __call__(self, *arguments: str) -> str:
        """Run a command that has to succeed, and return what it printed."""
        result = self.run(*arguments)
        assert result.returncode == 0, f"helm {' '.join(arguments)}: {result.stderr}"
        return result.stdout

    def render(self, *arguments: str, release: str = "penstock", namespace: str = "penstock") -> list[dict[str, Any]]:
        """Return the objects that the chart consists of with some values."""
        text = self("template", release, str(CHART), "--namespace", namespace, *arguments)
        return [obj for obj in yaml.safe_load_all(text) if obj]


def workloads(objects: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the pod of everything that runs: Deployments, Jobs and single Pods."""
    for obj in objects:
        name = f"{obj['kind']}/{obj['metadata']['name']}"
        if obj["kind"] == "Pod":
            yield name, {"metadata": obj["metadata"], "spec": obj["spec"]}
        elif obj["kind"] in {"Deployment", "Job"}:
            yield name, obj["spec"]["template"]


_RIGHTS = frozenset({"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"})


@contextlib.contextmanager
def rights_of(plane: ControlPlane, helm: Helm, namespace: str, *arguments: str) -> Iterator[None]:
    """Give a control plane the chart's definitions, accounts and roles; take the roles away on the way out."""
    objects = helm.render(*arguments, namespace=namespace)
    kubectl = [str(binaries.find("kubectl")), f"--kubeconfig={plane.kubeconfig()}"]

    def pipe(verb: Sequence[str], kinds: Sequence[str]) -> None:
        stream = yaml.safe_dump_all([obj for obj in objects if obj["kind"] in kinds])
        subprocess.run([*kubectl, *verb, "-f", "-"], input=stream, text=True, check=True, capture_output=True)

    pipe(["apply", "--server-side"], [*_RIGHTS, "ServiceAccount", "CustomResourceDefinition"])
    try:
        yield
    finally:
        pipe(["delete"], [*_RIGHTS])
