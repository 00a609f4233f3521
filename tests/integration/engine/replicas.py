"""What the tests ask of running replicas."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from penstock_engine.processes import descendants
from tests.support.ray_head import RayHead

HANG_AFTER_S = 5.0
START_WITHIN_S = 420.0
"""Two engines at once on two cores that others use too; a quiet machine takes a minute."""


class Serving:
    """A head with applications on it, each as Serve's REST interface takes it."""

    def __init__(self, head: RayHead, applications: list[dict[str, Any]]) -> None:
        self.head = head
        self._applications = applications
        for application in applications:
            application["args"]["hang_after_s"] = HANG_AFTER_S

    def deploy(self, *more: dict[str, Any]) -> None:
        """Send the whole configuration, for that is what Serve wants each time, with more applications in it."""
        config = {
            "proxy_location": "HeadOnly",
            "http_options": {"host": "127.0.0.1", "port": self.head.serve_port},
            "applications": [*self._applications, *more],
        }
        with self.head.client() as client:
            client.put("/api/serve/applications/", json=config).raise_for_status()

    def replicas(self, application: str) -> dict[str, dict[str, Any]]:
        """Return Serve's live replicas of an application by id."""
        deployment = self.head.application(application).get("deployments", {}).get("Engine", {})
        return {replica["replica_id"]: replica for replica in deployment.get("replicas", [])}

    def message(self, application: str) -> str:
        """Return what Serve says about an application's deployment."""
        return str(self.head.application(application).get("deployments", {}).get("Engine", {}).get("message", ""))

    def wait_for(self, application: str, *, running: int) -> dict[str, dict[str, Any]]:
        """Wait until exactly so many replicas live, all of them running, and can be reached; return them by id."""

        def settled() -> bool:
            states = [replica["state"] for replica in self.replicas(application).values()]
            return states == ["RUNNING"] * running and len(self.head.targets(application)) == running

        wait_until(settled, START_WITHIN_S, lambda: f"{application}: {self.message(application)}")
        return self.replicas(application)

    def scale(self, application: str, replicas: int) -> None:
        """Set the number of replicas."""
        path = f"/api/v1/applications/{application}/deployments/Engine/scale"
        with self.head.client() as client:
            client.post(path, json={"target_num_replicas": replicas}).raise_for_status()

    @contextlib.contextmanager
    def client(self, application: str) -> Iterator[httpx2.Client]:
        """Give a client of the one replica's own port. Whatever it is answered is searched for tracebacks."""
        (address,) = self.head.targets(application).values()
        hooks = {"response": [_check_no_python]}
        with httpx2.Client(base_url=f"{address}/{application}", timeout=60.0, event_hooks=hooks) as client:
            yield client


def _check_no_python(response: httpx2.Response) -> None:
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        assert_no_python(response.read())


def assert_no_python(body: bytes) -> None:
    """Fail when a body shows anything of the program behind it."""
    for sign in (b"Traceback", b'File "', b".py", b"Exception", b"site-packages"):
        assert sign not in body, body


def events(lines: Iterator[str]) -> Iterator[dict[str, Any] | None]:
    """Yield the JSON of each server-sent event, and None for `[DONE]`."""
    for line in lines:
        if line.startswith("data: "):
            assert_no_python(line.encode())
            yield None if line == "data: [DONE]" else json.loads(line.removeprefix("data: "))


def family(pid: int) -> list[int]:
    """Return a replica's process and all under it."""
    return [pid, *descendants(pid)]


def core_of(pid: int) -> int:
    """Return the engine's core process under a replica's process."""
    (core,) = [child for child in descendants(pid) if b"EngineCore" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return core


def alive(pids: list[int]) -> list[int]:
    """Return those that still run; a zombie does not."""
    left = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if b") Z " not in Path(f"/proc/{pid}/stat").read_bytes():
                left.append(pid)
    return left


def shared_memory(pids: list[int]) -> set[Path]:
    """Return the files in /dev/shm that these processes map."""
    found = set()
    for pid in pids:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            _, here, name = line.partition("/dev/shm/")
            if here and not name.endswith("(deleted)"):
                found.add(Path("/dev/shm") / name)
    return found


def wait_until(condition: Callable[[], bool], within_s: float, explain: Callable[[], str] = lambda: "") -> None:
    """Look until a condition holds; fail with an explanation when it does not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {explain()}"
        time.sleep(0.25)
