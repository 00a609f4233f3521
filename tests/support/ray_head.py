"""A real Ray head for tests: own ports, own folder, token authentication, and nothing left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2

from penstock_engine.processes import is_resource_tracker

SHARED_MEMORY = Path("/dev/shm")
MARK = "PENSTOCK_RAY_HEAD"
"""In the environment of every process of a head: the folder of that head."""


@dataclasses.dataclass(frozen=True)
class RayHead:
    """A running head."""

    folder: Path
    """Holds everything that Ray, Serve, vLLM and torch write."""
    address: str
    """Of the dashboard and Serve's REST API, as `http://host:port`."""
    serve_port: int
    token: str
    environment: Mapping[str, str]
    """Of the head; a client that speaks Ray's own protocol needs the same."""

    def client(self, timeout_s: float = 30.0) -> httpx2.Client:
        """Return a client of the REST API that sends the token."""
        return httpx2.Client(
            base_url=self.address, headers={"authorization": f"Bearer {self.token}"}, timeout=timeout_s
        )

    def processes(self) -> list[int]:
        """Return the ids of this head's live processes, whoever their parent is now."""
        return _marked_processes(self.folder)

    def application(self, name: str) -> dict[str, Any]:
        """Return Serve's details of one application; empty when there is none."""
        with self.client() as client:
            return client.get("/api/serve/applications/").json()["applications"].get(name, {})

    def targets(self, name: str) -> dict[str, str]:
        """Return the URLs of an application's replicas by replica id, without Serve's own proxy."""
        with self.client() as client:
            groups = client.get("/api/serve/applications/").json().get("target_groups", [])
        prefix = f"SERVE_REPLICA::{name}#"
        return {
            target["name"].rsplit("#", 1)[1]: f"http://127.0.0.1:{target['port']}"
            for group in groups
            if group["app_name"] == name and group["protocol"] == "HTTP"
            for target in group["targets"]
            if target["name"].startswith(prefix)
        }


@contextlib.contextmanager
def ray_head(*, env: Mapping[str, str] | None = None, cpus: int = 4, ready_within_s: float = 90.0) -> Iterator[RayHead]:
    """Run `ray start --head` on free ports of the loopback interface; end all of it on the way out.

    Args:
        env: Added to the head's environment, which its workers inherit.
        cpus: What Ray believes the machine has; replicas only count against it.
        ready_within_s: Time until the REST API must answer.
    """
    folder = Path(tempfile.mkdtemp(prefix="ps-"))  # short: Ray's sockets below it must fit 107 bytes
    token = secrets.token_hex(32)
    dashboard_port, serve_port, *others = _free_ports(8)
    environment = {**os.environ, **_environment(folder, token), **(env or {})}
    head = RayHead(folder, f"http://127.0.0.1:{dashboard_port}", serve_port, token, environment)
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *_arguments(folder, dashboard_port, others, cpus)],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(head, process, ready_within_s)
        yield head
    finally:
        _tear_down(head, process)


def _environment(folder: Path, token: str) -> dict[str, str]:
    (folder / "tmp").mkdir()
    token_file = folder / "token"
    token_file.write_text(token)
    token_file.chmod(0o600)
    return {
        MARK: str(folder),
        "TMPDIR": str(folder / "tmp"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(30_000 + secrets.randbelow(20) * 50),
        "RAY_GRAFANA_HOST": "",
        "HF_HUB_OFFLINE": "1",
    }


def _arguments(folder: Path, dashboard_port: int, others: list[int], cpus: int) -> list[str]:
    gcs, agent_http, agent_grpc, runtime_env, metrics, node_manager = others
    return [
        "start",
        "--head",
        "--block",
        "--node-ip-address=127.0.0.1",
        f"--port={gcs}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard_port}",
        "--include-dashboard=true",
        f"--dashboard-agent-listen-port={agent_http}",
        f"--dashboard-agent-grpc-port={agent_grpc}",
        f"--runtime-env-agent-port={runtime_env}",
        f"--metrics-export-port={metrics}",
        f"--node-manager-port={node_manager}",
        "--min-worker-port=0",
        "--max-worker-port=0",
        f"--num-cpus={cpus}",
        "--num-gpus=0",
        "--object-store-memory=100000000",
        "--disable-usage-stats",
        f"--temp-dir={folder / 'ray'}",
    ]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_until_ready(head: RayHead, process: subprocess.Popen[bytes], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    with head.client(timeout_s=5.0) as client:
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx2.HTTPError):
                if client.get("/api/serve/applications/").status_code == 200:
                    return
            time.sleep(0.2)
    raise RuntimeError(f"the Ray head did not come up:\n{(head.folder / 'head.log').read_text()[-4000:]}")


def _tear_down(head: RayHead, process: subprocess.Popen[bytes]) -> None:
    """Serve first, so that engines remove their shared memory; then the head; then by id whatever is left."""
    segments = _shared_memory_of(head.processes())
    with contextlib.suppress(httpx2.HTTPError), head.client(timeout_s=60.0) as client:
        client.delete("/api/serve/applications/")
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    for pid in head.processes():
        if not is_resource_tracker(pid):  # those end by themselves, and clean up before
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while (left := head.processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(10)
    for segment in segments:
        (SHARED_MEMORY / segment).unlink(missing_ok=True)
    shutil.rmtree(head.folder, ignore_errors=True)


def _marked_processes(folder: Path) -> list[int]:
    mark = f"{MARK}={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                alive = b") Z " not in (entry / "stat").read_bytes()
                if alive and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _shared_memory_of(pids: list[int]) -> set[str]:
    """Return the names in /dev/shm that these processes map: the kernel knows whose they are, the names do not say."""
    names = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                _, found, name = line.partition(f"{SHARED_MEMORY}/")
                if found and not name.endswith("(deleted)"):
                    names.add(name)
    return names
