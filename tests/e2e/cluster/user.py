"""What a user of the cluster does, with the commands that a user has: helm, kubectl, and a client of the gateway."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.cluster.record import Record
from tests.support.node.images import ROOT
from tests.support.node.node import Node

HERE = Path(__file__).parent
CHART = ROOT / "helm" / "penstock"
RELEASE = "penstock"
SYSTEM = "penstock"
"""Namespace of the release."""
TEAM = "team"
"""Namespace of the Model."""
MODEL = "tiny"
TENANT = "alice"
STREAM_S = 60.0
"""How long each stream that a promise is tried with shall last at least."""
FIRST_TOKENS_WITHIN_S = 60.0
CALIBRATION_TOKENS = 300
MOST_TOKENS = 15_000
"""Of one stream: what the Model's context holds."""


@dataclass
class Streams:
    """Streams that are open, in a process of their own within the node."""

    process: subprocess.Popen[str]
    firsts: list[dict[str, Any]] = field(default_factory=list)
    ends: list[dict[str, Any]] = field(default_factory=list)

    def read(self) -> None:
        """Take in what the process says, until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            (self.firsts if event["event"] == "first" else self.ends).append(event)

    @property
    def alive(self) -> int:
        """Streams that have begun and not ended."""
        return len(self.firsts) - sum("first_s" in end for end in self.ends)


@dataclass
class User:
    """One user of one node."""

    node: Node
    record: Record
    key: str = field(default_factory=lambda: f"sk-{secrets.token_hex(16)}")
    counts_replicas: bool = True
    """Whether the report still follows how many replicas serve: while load alone changes it."""

    def helm(self, *arguments: str | Path, within_s: float = 400.0) -> str:
        """Run helm in the release's namespace."""
        return self.node.run("helm", "-n", SYSTEM, *arguments, within_s=within_s)

    def apply_platform(self, change: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Apply what a team applies; `change` edits the Model first."""
        documents = list(yaml.safe_load_all((HERE / "platform.yaml").read_text()))
        if change is not None:
            change(next(document for document in documents if document["kind"] == "Model"))
        keys = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {TENANT: self.key}}
        given = yaml.safe_dump_all([keys, *documents])
        self.node.kubectl("apply", "-n", TEAM, "-f", "-", given=given)

    def model(self) -> dict[str, Any]:
        """Return the Model."""
        found = self.node.get("model", MODEL, "-n", TEAM)
        assert isinstance(found, dict)
        return found

    def models(self, when: str) -> str:
        """Return what `kubectl get models` prints, and keep it in the report."""
        table = self.node.kubectl("get", "models", "-A")
        self.record.report["kubectl_get_models"][when] = table.splitlines()
        self.record.say("  " + table.strip().replace("\n", "\n             "))
        return table

    def wait_model(self, what: str, check: Callable[[dict[str, Any]], Any], within_s: float) -> dict[str, Any]:
        """Wait until the Model's status is as wanted; the number of replicas that serve is noted meanwhile."""

        def look() -> dict[str, Any] | None:
            model = self.model()
            ready = model.get("status", {}).get("readyReplicas", 0)
            if ready and self.counts_replicas:
                self.record.replicas(ready)
            return model if check(model.get("status", {})) else None

        try:
            found = self.node.wait(what, look, within_s=within_s, every_s=1.0)
        except TimeoutError as error:
            conditions = [
                f"{each['type']}={each['status']} {each['reason']}: {each['message']}"
                for each in self.model().get("status", {}).get("conditions", [])
            ]
            raise TimeoutError(f"{error}; the Model says {conditions}") from None
        assert isinstance(found, dict)
        return found

    def wait_ready(self, replicas: int, within_s: float = 300.0) -> dict[str, Any]:
        """Wait until the Model is Ready, with so many replicas and no more that serve."""
        what = f"{replicas} replicas serve"
        return self.wait_model(what, lambda status: is_ready(status) and settled(status) == replicas, within_s)

    def pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """Return the pods that a label selector finds, without those on their way out."""
        items = self.node.get("pods", "-n", namespace, "-l", selector)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def workers(self) -> list[dict[str, Any]]:
        """Return the pods with engines."""
        return self.pods(TEAM, "ray.io/node-type=worker")

    def gateway(self) -> str:
        """Return the address of the gateway's Service, as the node's own network reaches it."""
        service = self.node.get("service", f"{RELEASE}-gateway", "-n", SYSTEM)
        return f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"

    def first_token(self, within_s: float) -> None:
        """Ask until the first token comes."""
        deadline = time.monotonic() + within_s
        while True:
            with self.streams(1, tokens=1) as streams:
                streams.process.wait()
            if streams.firsts:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"no token within {within_s:.0f} s: {streams.ends}")
            time.sleep(0.5)

    @contextlib.contextmanager
    def streams(self, count: int, tokens: int) -> Iterator[Streams]:
        """Open streams of exactly so many tokens; on the way out they are given the time to end."""
        command = [sys.executable, "-I", str(HERE / "streams.py"), "--url", self.gateway(), "--model", MODEL]
        line = self.node.enter(*command, "--count", str(count), "--tokens", str(tokens))
        environment = {**self.node.environment(), "PENSTOCK_API_KEY": self.key}
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment) as process:
            streams = Streams(process)
            reader = threading.Thread(target=streams.read)
            reader.start()
            try:
                yield streams
                process.wait(900)
            finally:
                process.kill()  # nsenter's; the client dies with its pipe or with the node
                reader.join()

    def tokens_for(self, count: int, least_s: float) -> int:
        """Try how fast tokens come to so many streams; return how many make each last so long, and some more."""
        with self.streams(count, CALIBRATION_TOKENS) as trial:
            trial.process.wait(FIRST_TOKENS_WITHIN_S * 2)
        took_s = max((end["lasted_s"] for end in trial.ends), default=1.0)
        return min(int(CALIBRATION_TOKENS / took_s * least_s * 1.6), MOST_TOKENS)

    @contextlib.contextmanager
    def long_streams(self, cause: str, count: int, least_s: float = STREAM_S) -> Iterator[Streams]:
        """Open streams that last a while, let `cause` happen to them, and count those it cut."""
        tokens = self.tokens_for(count, least_s)
        with self.streams(count, tokens) as streams:
            self.wait_running(streams, count)
            self.record.say(f"  {count} streams of {tokens} tokens run")
            yield streams
            alive = streams.alive
        self.record.streams(cause, streams.ends, alive_when_it_was_over=alive)

    @contextlib.contextmanager
    def steady_streams(self, cause: str, count: int) -> Iterator[Callable[[], int]]:
        """Keep so many long streams open or more, for as long as `cause` takes, and count those it cut.

        However long it takes, every moment of it has streams that began before. Yields what tells how many are alive.
        """
        tokens = self.tokens_for(count, STREAM_S)
        batches: list[Streams] = []
        over = threading.Event()
        with contextlib.ExitStack() as opened:

            def open_one() -> None:
                batches.append(opened.enter_context(self.streams(count, tokens)))

            def keep_open() -> None:
                while not over.wait(STREAM_S * 0.75):
                    open_one()

            open_one()
            self.wait_running(batches[0], count)
            self.record.say(f"  {count} streams of {tokens} tokens run, and as many more every {STREAM_S * 0.75:.0f} s")
            keeper = threading.Thread(target=keep_open)
            keeper.start()
            try:
                yield lambda: sum(batch.alive for batch in batches)
                alive = sum(batch.alive for batch in batches)
            finally:
                over.set()
                keeper.join()
        ended = [end for batch in batches for end in batch.ends]
        self.record.streams(cause, ended, alive_when_it_was_over=alive)

    def wait_running(self, streams: Streams, count: int) -> None:
        """Wait until so many streams have had their first token; one that ends before that is an error."""

        def look() -> bool:
            if streams.ends:
                raise RuntimeError(f"streams ended before all {count} had begun: {streams.ends}")
            return streams.alive == count

        self.node.wait(f"{count} streams run", look, within_s=FIRST_TOKENS_WITHIN_S)

    def kill(self, pod: dict[str, Any], program: str) -> int:
        """Kill (SIGKILL) the processes of a pod whose command line has a word; return how many there were."""
        killed = self.node.run(sys.executable, "-I", HERE / "killer.py", pod["metadata"]["uid"], program)
        return int(killed)

    def penstock(self, *arguments: str) -> str:
        """Run `penstock` against the cluster."""
        return self.node.run(ROOT / ".venv/bin/penstock", *arguments, within_s=90.0)


def is_ready(status: dict[str, Any]) -> bool:
    """Tell whether a Model's status says Ready."""
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", []))


def settled(status: dict[str, Any]) -> int | None:
    """Return how many replicas serve, when that is as many as there are; else None."""
    ready = status.get("readyReplicas", 0)
    return ready if ready == status.get("replicas") else None
