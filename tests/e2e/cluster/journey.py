"""The whole way of a user, step after step, on one node; what happened goes into the record."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.e2e.cluster.load import load
from tests.e2e.cluster.record import Record
from tests.e2e.cluster.user import (
    CHART,
    HERE,
    RELEASE,
    STREAM_S,
    SYSTEM,
    TEAM,
    User,
    is_ready,
    settled,
)
from tests.support.node import Node

POD_USER = 65532
"""User that the ledger writes its books as."""
COLD_START_S = 420.0
"""A replica starts in a minute on two free cores; here the load takes its share of them."""
STREAMS = 4
VALUES = HERE / "values.yaml"
CHANGED = ("operator.statusPeriodSeconds=4", "gateway.drainDelaySeconds=6")
"""Chart values of the upgrade: both Deployments roll."""


def run(node: Node, record: Record) -> None:
    """Go the whole way. The record has what came of each step; the first that fails ends it with an exception."""
    user = User(node, record)
    record.note(node={"started_s": node.started_s})
    for name, step in STEPS:
        with record.step(name):
            step(user)


def install(user: User) -> None:
    """Install the chart, and wait until everything of it runs."""
    _volume_for_the_books(user)
    user.node.kubectl("create", "namespace", TEAM)
    user.helm("install", RELEASE, CHART, "--create-namespace", "-f", VALUES, "--wait", "--timeout", "5m")


def serve_six_lines(user: User) -> None:
    """Apply the Model, and measure the time to its first token."""
    began_s = time.monotonic()
    user.apply_platform()
    user.wait_ready(1, COLD_START_S)
    user.first_token(within_s=30.0)
    user.record.note(first_token_s=round(time.monotonic() - began_s, 1))
    user.models("first token")


def press_until_two(user: User) -> None:
    """Fill the KV cache from inside the cluster until a second worker pod serves; then calm down under streams."""
    options = {"users": 100, "duration": 3600, "system_tokens": 300, "prompt_tokens": "500-900"}
    with load(user, **options, output_tokens="400-800", bytes_per_token=1, ignore_eos=True):
        user.wait_model("two replicas are wanted", lambda status: status.get("replicas", 0) >= 2, 180.0)
        user.models("under pressure")
        user.wait_model("two replicas serve", lambda status: status.get("readyReplicas", 0) == 2, COLD_START_S)
        assert len(user.workers()) == 2, "two replicas serve, but not in two worker pods"
        user.models("two replicas")
    with user.long_streams("scaling down", STREAMS + 2, least_s=2 * STREAM_S) as streams:
        user.wait_model("one replica is to go", lambda status: status.get("readyReplicas", 0) == 1, 180.0)
        user.record.say(f"  one replica drains, {streams.alive} streams alive")
        user.record.note(alive_at_drain=streams.alive)
    user.wait_ready(1, 120.0)
    user.models("calm")
    user.counts_replicas = False
    _wait_for_workers(user, 1)


def scale_by_hand(user: User) -> None:
    """`kubectl scale` to two, and let the brain take it back."""
    user.node.kubectl("scale", "model", "tiny", "--replicas=2", "-n", TEAM)
    user.wait_model("two replicas are wanted", lambda status: status.get("replicas", 0) == 2, 60.0)
    user.record.note(kubectl_scale="2 replicas after `kubectl scale --replicas=2`")


def kill_an_engine(user: User) -> None:
    """Kill an engine's process; the Model serves again, and requests never stop being answered."""
    user.wait_model("it is settled", lambda status: settled(status) is not None, COLD_START_S)
    with user.long_streams("an engine's death", STREAMS, least_s=20.0):
        # A worker pod without a replica may still be on its way out.
        victim = next((pod for pod in user.workers() if user.kill(pod, "EngineCore")), None)
        assert victim is not None, "there is no engine process in any worker pod"
        user.record.say(f"  killed the engine's process in {_name(victim)}")
        user.wait_model("the loss is seen", lambda status: settled(status) is None, 60.0)
    _serves_again(user)


def delete_a_worker(user: User) -> None:
    """Delete a worker pod under streams."""
    with user.long_streams("a worker pod's deletion", STREAMS, least_s=20.0):
        victim = user.workers()[0]["metadata"]["name"]
        user.node.kubectl("delete", "pod", victim, "-n", TEAM, "--wait=false")
        user.record.say(f"  deleted {victim}")
    _serves_again(user)


def roll_the_gateway(user: User) -> None:
    """Roll both gateways under streams: new ones take over, the old ones drain."""
    with user.steady_streams("the gateway's roll", STREAMS) as alive:
        old = {_name(pod) for pod in user.pods(SYSTEM, "app.kubernetes.io/component=gateway")}
        user.node.kubectl("rollout", "restart", f"deployment/{RELEASE}-gateway", "-n", SYSTEM)
        user.node.kubectl("rollout", "status", f"deployment/{RELEASE}-gateway", "-n", SYSTEM, within_s=180)
        new = {_name(pod) for pod in user.pods(SYSTEM, "app.kubernetes.io/component=gateway")}
        assert not old & new, f"these gateways did not roll: {old & new}"
        user.record.say(f"  two new gateways serve, {alive()} streams alive")
        user.first_token(within_s=10.0)


def kill_the_leader(user: User) -> None:
    """Kill the operator that leads; another takes over, and streams know nothing of it."""
    leader = _leader(user)
    pod = user.node.get("pod", leader, "-n", SYSTEM)
    with user.steady_streams("the operator's death", STREAMS):
        killed = user.kill(pod, "penstock_operator")
        assert killed, f"no operator process in {leader}"
        at = datetime.now(UTC)
        user.node.wait("an operator leads again", lambda: _leads_since(user, at), within_s=120)
        user.record.note(takeover_s=round((datetime.now(UTC) - at).total_seconds(), 1))
        user.record.say(f"  killed the operator in {leader}; {_leader(user)} leads")
    user.wait_ready(1, COLD_START_S)


def upgrade(user: User) -> None:
    """Upgrade the release with new values, then change an engine argument of the Model; both under streams."""
    with user.steady_streams("helm upgrade", STREAMS) as alive:
        old = {_name(pod) for pod in user.pods(SYSTEM, "app.kubernetes.io/component in (gateway,operator)")}
        changes = [word for change in CHANGED for word in ("--set", change)]
        user.helm("upgrade", RELEASE, CHART, "-f", VALUES, *changes, "--wait", "--timeout", "5m")
        new = {_name(pod) for pod in user.pods(SYSTEM, "app.kubernetes.io/component in (gateway,operator)")}
        assert not old & new, f"these did not roll: {old & new}"
        user.record.say(f"  upgraded, {alive()} streams alive")


def change_the_engine(user: User) -> None:
    """Change an engine argument: another revision comes up beside the old one, takes over, and the old one drains."""
    old = _variants(user)

    def change(model: dict[str, Any]) -> None:
        model["spec"]["engine"]["args"] += ["--max-num-seqs", "64"]

    with user.steady_streams("a changed engine argument", STREAMS) as alive:
        user.apply_platform(change)
        user.node.wait("the new revision serves", lambda: _others_serve(user, old), within_s=COLD_START_S, every_s=1.0)
        user.record.note(alive_at_takeover=alive())
        user.record.say(f"  the new revision serves, {alive()} streams alive")
        user.first_token(within_s=30.0)
    user.node.wait("the old revision is gone", lambda: not old & _variants(user), within_s=180, every_s=1.0)
    user.wait_ready(1, 120.0)
    user.models("upgraded")


def ask_for_the_bill(user: User) -> None:
    """Ask what it cost, and why there are as many replicas as there are."""
    answers = {word: user.penstock(word, "-n", TEAM).splitlines() for word in ("status", "cost")}
    answers["why"] = user.penstock("why", "tiny", "-n", TEAM).splitlines()
    user.record.note(penstock=answers, cost=json.loads(user.penstock("cost", "-n", TEAM, "-o", "json")))
    for word, lines in answers.items():
        user.record.say(f"  penstock {word}:\n             " + "\n             ".join(lines))


def uninstall(user: User) -> None:
    """Uninstall the release: its pods go, what people made stays, and nothing hangs on a finalizer."""
    user.helm("uninstall", RELEASE, "--wait", "--timeout", "5m")
    user.node.wait(
        "its pods are gone", lambda: not user.pods(SYSTEM, "app.kubernetes.io/instance=penstock"), within_s=120
    )
    user.record.note(models_after_uninstall=len(user.node.get("models", "-n", TEAM)["items"]))
    user.node.kubectl("delete", "model", "tiny", "-n", TEAM, within_s=60)


STEPS: Sequence[tuple[str, Callable[[User], None]]] = (
    ("helm install", install),
    ("kubectl apply of the Model, until its first token", serve_six_lines),
    ("load from inside until KV pressure makes a second worker pod, then calm", press_until_two),
    ("a worker pod deleted under streams", delete_a_worker),
    ("both gateways rolled under streams", roll_the_gateway),
    ("the leading operator killed under streams", kill_the_leader),
    ("helm upgrade under streams", upgrade),
    ("another engine argument under streams", change_the_engine),
    ("kubectl scale", scale_by_hand),
    ("an engine's process killed under streams", kill_an_engine),
    ("penstock status, why and cost", ask_for_the_bill),
    ("helm uninstall", uninstall),
)


def _volume_for_the_books(user: User) -> None:
    """Make a volume, as the node has nothing that provides them."""
    folder: Path = user.node.folders.volatile / "books"
    folder.mkdir()
    os.chown(folder, POD_USER, POD_USER)
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": str(folder)}}
    user.node.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "books"}, "spec": spec})


def _name(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["name"])


def _wait_for_workers(user: User, count: int) -> None:
    user.node.wait(f"{count} worker pod is left", lambda: len(user.workers()) == count, within_s=180, every_s=1.0)
    user.record.say(f"  {count} worker pod is left")


def _serves_again(user: User) -> None:
    """Wait until the Model's only replica, which was lost, is replaced."""
    user.first_token(within_s=COLD_START_S)
    user.wait_model("it is Ready", lambda status: is_ready(status) and settled(status), COLD_START_S)


def _leader(user: User) -> str:
    return str(user.node.get("lease", f"{RELEASE}-operator", "-n", SYSTEM)["spec"].get("holderIdentity") or "")


def _leads_since(user: User, killed: datetime) -> bool:
    """Tell whether the lease was renewed after a time, which only a live leader does."""
    renewed = user.node.get("lease", f"{RELEASE}-operator", "-n", SYSTEM)["spec"].get("renewTime")
    return renewed is not None and datetime.fromisoformat(renewed) > killed


def _variants(user: User) -> set[str]:
    return {each["name"] for each in user.model()["status"].get("variants", [])}


def _others_serve(user: User, old: set[str]) -> bool:
    variants = user.model()["status"].get("variants", [])
    return any(each["name"] not in old and each.get("readyReplicas", 0) for each in variants)
