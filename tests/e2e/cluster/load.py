"""Load from inside the cluster: a Job that runs `penstock load`, which is locust."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from penstock import __version__
from tests.e2e.cluster.user import MODEL, RELEASE, SYSTEM, TEAM, TENANT, User
from tests.support.node.node import CommandError

NAME = "load"
ENDED_WITHIN_S = 180.0
# To the process that locust runs in, as ^C would: no new requests, and those that are open may end.
STOP = (
    "import os, pathlib, signal;"
    "[os.kill(int(p.name), signal.SIGTERM) for p in pathlib.Path('/proc').iterdir() if p.name.isdigit()"
    " and b'-m\\0penstock_loadtest' in (p / 'cmdline').read_bytes()]"
)


@contextlib.contextmanager
def load(user: User, **options: Any) -> Iterator[None]:
    """Run a load for as long as the block lasts, then let its open requests end and count them all.

    Args:
        user: who runs it.
        options: of `penstock load`.
    """
    user.node.apply(_job(options))
    try:
        user.node.wait("the load runs", lambda: _phase(user) == "Running", within_s=60)
        yield
        user.node.kubectl("exec", "-n", TEAM, f"job/{NAME}", "--", "python", "-c", STOP)
        user.node.wait("the load has ended", lambda: _phase(user) in {"Succeeded", "Failed"}, within_s=ENDED_WITHIN_S)
        user.record.requests(_report(user)["requests"])
    finally:
        user.node.kubectl("delete", "job", NAME, "-n", TEAM, "--cascade=foreground", within_s=120)


def _phase(user: User) -> str:
    pods = user.node.get("pods", "-n", TEAM, "-l", f"job-name={NAME}")["items"]
    return str(pods[0]["status"]["phase"]) if pods else "Pending"


def _report(user: User) -> Mapping[str, Any]:
    """Return the JSON report, which the Job prints after its table."""
    log = user.node.kubectl("logs", "-n", TEAM, f"job/{NAME}")
    start = log.find("\n{\n")
    if start < 0:
        raise CommandError(f"the load left no report:\n{log[-2000:]}")
    found = json.loads(log[start:])
    assert isinstance(found, dict)
    return found


def _job(options: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments = [f"--url=http://{RELEASE}-gateway.{SYSTEM}.svc", f"--model={MODEL}", "--json=/dev/stdout"]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        arguments.append(flag if value is True else f"{flag}={value}")
    container = {
        "name": "load",
        "image": f"penstock-loadtest:{__version__}",
        "imagePullPolicy": "Never",
        "args": arguments,
        "env": [
            {"name": "PENSTOCK_API_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": TENANT}}},
            {"name": "COLUMNS", "value": "120"},
        ],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {"restartPolicy": "Never", "securityContext": security, "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": NAME, "namespace": TEAM},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
