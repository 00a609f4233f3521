"""The demo's steps, in the order in which a viewer should see them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from penstock.control.status import ModelStatus, ReplicaStatus
from penstock.scaling.snapshot import ReplicaPhase
from penstock_loadtest.demo.platform import DemoPlatform, fresh_state, kill_engine
from penstock_loadtest.demo.report import Mark
from penstock_loadtest.demo.watch import DemoError, Watch
from penstock_loadtest.records import RequestRecord
from penstock_loadtest.run import HeadlessRun
from penstock_loadtest.settings import LoadSettings

MODEL = "tiny"
COLD_START_LIMIT_S = 300.0
"""A replica starts in about a minute on two free cores; here the load takes its share of them."""
STEP_LIMIT_S = 180.0
SERVE_ON_TWO_S = 8.0
"""Long enough for both replicas to hold requests, and for the curves to show it."""


@dataclass
class Evidence:
    """What the run leaves for its report."""

    platform: DemoPlatform
    watch: Watch
    marks: list[Mark] = field(default_factory=list)
    records: list[RequestRecord] = field(default_factory=list)
    killed_replica: str = ""
    killed_at_s: float = 0.0
    """Unix seconds."""
    drained_replicas: frozenset[str] = frozenset()


Say = Callable[[str], None]


def run_scenario(folder: Path, say: Say) -> Evidence:
    """Run every step and return the evidence. The platform is down when this returns or raises.

    Args:
        folder: where the platform's state and the load's records go; what an earlier run left there is replaced.
        say: called with one line for each step.

    Raises:
        DemoError: a step did not come about.
    """
    state = fresh_state(folder / "state")
    shutil.rmtree(state.root, ignore_errors=True)
    watch = Watch(state.status, MODEL, began_s=time.time())
    evidence = Evidence(DemoPlatform(state), watch)
    watch.start()
    try:
        _step(evidence, say, "Step", "bringing the platform up: Ray, a vLLM replica, the gateway")
        evidence.platform.up()
        _load_until_two_and_kill(evidence, folder, say)
        _calm_down_under_streams(evidence, folder, say)
    finally:
        _step(evidence, say, "Step", "bringing everything down")
        try:
            evidence.platform.down()
        finally:
            watch.stop()
    return evidence


def _load_until_two_and_kill(evidence: Evidence, folder: Path, say: Say) -> None:
    watch = evidence.watch
    settings = LoadSettings(
        url=evidence.platform.url(),
        model=MODEL,
        api_key="sk-demo-alice",
        users=56,
        duration_s=3600,
        system_tokens=300,
        prompt_tokens="60-160",
        output_tokens="300-700",
        bytes_per_token=1,
        ignore_eos=True,
    )
    _step(evidence, say, "Step", f"loading it with {settings.users} users until its KV cache is full")
    with _load(evidence, settings, folder / "load.jsonl"):
        watch.wait_for("a second replica to be asked for", lambda model: model.target == 2, STEP_LIMIT_S)
        _step(evidence, say, "Step", "1 to 2 replicas asked for; the new one starts under load")
        ready = watch.wait_for("two replicas that serve", lambda model: model.ready == 2, COLD_START_LIMIT_S)
        _step(evidence, say, "Ready", "two replicas serve")
        time.sleep(SERVE_ON_TWO_S)
        victim = _youngest(ready)
        evidence.killed_replica, evidence.killed_at_s = victim.id, time.time()
        pid = kill_engine(victim)
        _step(evidence, say, "Kill", f"killed the engine of replica {victim.id} (SIGKILL to process {pid})")
        watch.wait_for("the dead replica to be gone", lambda model: _gone(model, victim.id), STEP_LIMIT_S)
        _step(evidence, say, "Step", f"replica {victim.id} is out of service; another takes its place")
        watch.wait_for("its replacement to serve", lambda model: model.ready == 2, COLD_START_LIMIT_S)
        _step(evidence, say, "Ready", "two replicas serve again")
        time.sleep(SERVE_ON_TWO_S)


def _calm_down_under_streams(evidence: Evidence, folder: Path, say: Say) -> None:
    watch = evidence.watch
    settings = LoadSettings(
        url=evidence.platform.url(),
        model=MODEL,
        api_key="sk-demo-bob",
        users=6,
        duration_s=3600,
        prompt_tokens="20-60",
        output_tokens="1500-3000",
        bytes_per_token=1,
        ignore_eos=True,
        stop_timeout_s=120,
    )
    _step(evidence, say, "Step", f"stopping that load; {settings.users} users with long streams stay")
    with _load(evidence, settings, folder / "streams.jsonl"):
        calm = watch.wait_for("the target to fall to one", lambda model: model.target == 1, STEP_LIMIT_S)
        draining = watch.wait_for("a replica to drain", lambda model: model.ready == 1, STEP_LIMIT_S)
        evidence.drained_replicas = frozenset({replica.id for replica in calm.replicas} - {_serving(draining).id})
        _step(evidence, say, "Step", "2 to 1: a replica drains while streams run on it")
    # The load has stopped, and its open streams were given the time to finish.
    watch.wait_for("the drained replica to be gone", lambda model: len(model.replicas) == 1, STEP_LIMIT_S)
    _step(evidence, say, "Step", "the drained replica is gone")


@contextmanager
def _load(evidence: Evidence, settings: LoadSettings, records_file: Path) -> Iterator[None]:
    with HeadlessRun(settings, records_file) as load:
        yield
        if not load.running:
            load.wait()
            raise DemoError("the load ended before it was stopped")
    evidence.records.extend(load.records())


def _youngest(model: ModelStatus) -> ReplicaStatus:
    ready = [replica for replica in model.replicas if replica.state is ReplicaPhase.READY]
    return max(ready, key=lambda replica: replica.since_s)


def _serving(model: ModelStatus) -> ReplicaStatus:
    return next(replica for replica in model.replicas if replica.state is ReplicaPhase.READY)


def _gone(model: ModelStatus, replica_id: str) -> bool:
    return all(replica.id != replica_id for replica in model.replicas if replica.state is ReplicaPhase.READY)


def _step(evidence: Evidence, say: Say, kind: str, text: str) -> None:
    label = {"Kill": "engine killed", "Ready": "two serve"}.get(kind, "")
    mark = Mark(t_s=round(evidence.watch.now_s(), 1), kind=kind, text=text, label=label)
    evidence.marks.append(mark)
    say(f"{mark.t_s:7.1f} s  {text}")
