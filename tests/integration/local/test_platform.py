"""A platform as a user has it: brought up by the command, asked by the OpenAI client, edited, killed, taken down."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest

from penstock.control.status import ConditionType, ModelStatus
from penstock.local import procfs
from penstock.local.cleanup import SHARED_MEMORY
from penstock.local.journal import read_status
from penstock.local.ports import claim_port
from penstock.local.state import PlatformRecord, StateDirectory

pytestmark = [pytest.mark.engine, pytest.mark.timeout(540)]

SAMPLE = Path(__file__).parents[3] / "manifests" / "samples" / "tiny.yaml"
MISSING = """
apiVersion: penstock.dev/v1alpha1
kind: Model
metadata: {name: missing}
spec: {source: "file:///no/such/folder", accelerator: "cpu:1"}
"""
TENANTS = """
apiVersion: penstock.dev/v1alpha1
kind: Route
metadata: {name: chat}
spec: {backends: [{model: tiny}]}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {alice: sk-alice}
---
apiVersion: penstock.dev/v1alpha1
kind: Tenant
metadata: {name: alice}
spec: {keys: [{name: main, secretRef: {name: keys, key: alice}}]}
"""


def penstock(*arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


def eventually(what: str, holds: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.2)


@dataclass
class Platform:
    state: StateDirectory
    manifests: Path
    data_port: int
    up: subprocess.CompletedProcess[str]
    clients: dict[str, openai.OpenAI] = field(default_factory=dict)

    def client(self, key: str = "none") -> openai.OpenAI:
        if key not in self.clients:
            base_url = f"http://127.0.0.1:{self.data_port}/v1"
            self.clients[key] = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)
        return self.clients[key]

    def model(self, name: str) -> ModelStatus:
        status = read_status(self.state.status)
        assert status is not None
        return next(model for model in status.models if model.name == name)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    root = tmp_path_factory.mktemp("platform")
    manifests = root / "manifests"
    manifests.mkdir()
    shutil.copy(SAMPLE, manifests / "tiny.yaml")
    (manifests / "missing.yaml").write_text(MISSING)
    data_port, admin_port = claim_port("--data-port", None), claim_port("--admin-port", None)
    state = StateDirectory(root / "state")
    ports = ("--data-port", str(data_port), "--admin-port", str(admin_port))
    try:
        up = penstock("up", str(manifests), "--detach", "--state", str(state.root), *ports)
        platform = Platform(state, manifests, data_port, up)
        yield platform
        for client in platform.clients.values():
            client.close()
    finally:
        penstock("down", "--state", str(state.root))


def test_a_sound_model_serves_beside_a_broken_one(platform: Platform) -> None:
    assert platform.up.returncode == 1, platform.up.stdout + platform.up.stderr
    assert "running without missing" in platform.up.stdout
    degraded = {said.type: said for said in platform.model("missing").conditions}[ConditionType.DEGRADED]
    assert (degraded.status, degraded.reason) == (True, "WeightsMissing")
    assert "/no/such/folder" in degraded.message
    chunks = platform.client().chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hello"}], max_tokens=16, stream=True
    )
    text = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len([piece for piece in text if piece]) > 1


def test_a_second_up_says_where_the_first_runs(platform: Platform) -> None:
    second = penstock("up", str(platform.manifests), "--detach", "--state", str(platform.state.root))
    assert second.returncode == 2
    assert f"already runs in {platform.state.root}" in second.stderr


def test_a_port_in_use_is_named_with_its_option(platform: Platform) -> None:
    other = penstock(
        "up",
        str(platform.manifests),
        "--state",
        str(platform.state.root) + "-2",
        "--data-port",
        str(platform.data_port),
    )
    assert other.returncode == 2
    assert f"--data-port {platform.data_port}" in other.stderr


def test_status_tells_replicas_with_their_processes(platform: Platform) -> None:
    shown = penstock("status", "--state", str(platform.state.root), "--output", "json")
    assert shown.returncode == 0
    tiny = next(model for model in json.loads(shown.stdout)["models"] if model["name"] == "tiny")
    [replica] = tiny["replicas"]
    assert replica["state"] == "Ready"
    assert procfs.identify(replica["pid"]) is not None
    eventually("the engine's pid", lambda: platform.model("tiny").replicas[0].engine_pid)
    eventually("a reading of the engine", lambda: platform.model("tiny").replicas[0].kv_usage is not None)


def test_edits_are_picked_up_and_broken_ones_change_nothing(platform: Platform) -> None:
    edited = platform.manifests / "tenants.yaml"
    edited.write_text(TENANTS)
    alice = platform.client("sk-alice")
    eventually("the route", lambda: "chat" in [model.id for model in _models(alice)])
    answer = alice.chat.completions.create(model="chat", messages=[{"role": "user", "content": "x"}], max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4
    with pytest.raises(openai.AuthenticationError):
        platform.client("sk-mallory").models.list()

    edited.write_text(TENANTS.replace("backends:", "backend:"))
    eventually("the problem", lambda: "tenants.yaml:5" in (read_status(platform.state.status) or _NOTHING).message)
    assert "chat" in [model.id for model in _models(alice)]
    edited.unlink()
    eventually("no tenants", lambda: _models(platform.client()))


def test_nothing_is_left_after_the_operator_was_killed(platform: Platform) -> None:
    record = platform.state.read_platform()
    assert record is not None
    segments = json.loads((platform.state.root / "segments.json").read_bytes())
    os.kill(record.pid, signal.SIGKILL)
    assert penstock("status", "--state", str(platform.state.root)).returncode == 1
    down = penstock("down", "--state", str(platform.state.root))
    assert down.returncode == 0, down.stderr
    assert "had been killed" in down.stdout
    assert leftovers(platform.state, record, segments) == []
    cost = penstock("cost", "--state", str(platform.state.root), "--output", "json")
    assert cost.returncode == 0, cost.stderr
    assert json.loads(cost.stdout)["paid_usd"] > 0
    assert penstock("why", "tiny", "--state", str(platform.state.root)).returncode == 0


def test_ctrl_c_while_an_engine_starts_leaves_nothing(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    ports = [str(claim_port(option, None)) for option in ("--data-port", "--admin-port")]
    arguments = ["up", str(SAMPLE), "--state", str(state.root), "--data-port", ports[0], "--admin-port", ports[1]]
    up = subprocess.Popen([sys.executable, "-m", "penstock", *arguments], stdout=subprocess.PIPE, text=True)
    try:
        eventually("a replica that starts", lambda: _starting(state), 120)
        record = state.read_platform()
        assert record is not None
        up.send_signal(signal.SIGINT)
        output, _ = up.communicate(timeout=90)
        assert up.returncode == 0
        assert "stay in" in output
        assert leftovers(state, record, {}) == []
    finally:
        up.kill()
        up.wait()
        penstock("down", "--state", str(state.root))


def leftovers(state: StateDirectory, record: PlatformRecord, segments: dict[str, int]) -> list[str]:
    """Return what a platform should not have left behind."""
    processes = [f"{child.role} {pid}" for child in record.children for pid in procfs.session_members(child.process)]
    files = [
        str(file) for file in (state.platform, state.status, state.snapshot, Path(record.temp_dir)) if file.exists()
    ]
    return [*processes, *files, *(name for name in segments if (SHARED_MEMORY / name).exists())]


def _models(client: openai.OpenAI) -> list[openai.types.Model]:
    try:
        return list(client.models.list())
    except openai.APIError:
        return []


def _starting(state: StateDirectory) -> bool:
    status = read_status(state.status)
    return status is not None and any(model.starting for model in status.models)


_NOTHING = type("Nothing", (), {"message": ""})()
