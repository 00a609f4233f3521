"""The platform as its user meets it: the `penstock` command in a process of its own, and the files it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import msgspec

from penstock.control.status import PlatformStatus, ReplicaStatus, TimelineEvent
from penstock.cost.ledger import snapshot_of
from penstock.cost.records import UsageRecord
from penstock.cost.report import CostReport
from penstock.local.ports import claim_port
from penstock.local.state import StateDirectory
from penstock.scaling.decision import Decision
from penstock.scaling.log import last_decisions
from penstock_loadtest.demo.watch import DemoError

_MANIFEST = files("penstock_loadtest.demo") / "platform.yaml"
_EVERY_DECISION = 10_000


@dataclass(frozen=True)
class DemoPlatform:
    """One platform of the demo's own, in its own state directory."""

    state: StateDirectory

    def up(self) -> None:
        """Run `penstock up --detach`; returns when the model serves.

        Raises:
            DemoError: it did not come up.
        """
        with as_file(_MANIFEST) as manifest:
            ports = [f"--{name}-port={claim_port(f'--{name}-port', None)}" for name in ("data", "admin")]
            self._penstock("up", str(manifest), "--detach", *ports, what="bring the platform up")

    def down(self) -> None:
        """Run `penstock down`, whatever state the platform is in.

        Raises:
            DemoError: something was left behind.
        """
        self._penstock("down", what="bring the platform down")

    def url(self) -> str:
        """Return the gateway's address."""
        return msgspec.json.decode(self.state.status.read_bytes(), type=PlatformStatus).data_url

    def cost(self) -> CostReport:
        """Return what `penstock cost` reports."""
        text = self._penstock("cost", "--output", "json", what="report the cost", capture=True)
        return msgspec.json.decode(text, type=CostReport)

    def decisions(self, model: str) -> list[Decision]:
        """Return the scaling decisions that were written down, oldest first."""
        return last_decisions(self.state.decisions, model, _EVERY_DECISION)

    def events(self) -> list[TimelineEvent]:
        """Return the platform's own timeline."""
        decoder = msgspec.json.Decoder(TimelineEvent)
        return [decoder.decode(line) for line in self.state.events.read_bytes().splitlines()]

    def usage(self, request_ids: Sequence[str]) -> dict[str, UsageRecord]:
        """Return what the ledger knows of these requests, by id."""
        with snapshot_of(self.state.ledger, self.state.spool) as ledger:
            found = {name: ledger.usage_record(name) for name in request_ids}
        return {name: record for name, record in found.items() if record is not None}

    def _penstock(self, *arguments: str, what: str, capture: bool = False) -> bytes:
        done = subprocess.run(
            [sys.executable, "-m", "penstock", *arguments, "--state", str(self.state.root)],
            stdout=subprocess.PIPE if capture else None,
            check=False,
        )
        if done.returncode:
            raise DemoError(
                f"could not {what}: `penstock {arguments[0]}` ended with code {done.returncode}; "
                f"see the logs in {self.state.logs}"
            )
        return done.stdout or b""


def kill_engine(replica: ReplicaStatus) -> int:
    """SIGKILL a replica's engine core and return its pid.

    Raises:
        DemoError: no engine core is known for the replica.
    """
    if replica.engine_pid is None:
        raise DemoError(f"replica {replica.id} shows no engine process to kill")
    os.kill(replica.engine_pid, signal.SIGKILL)
    return replica.engine_pid


def fresh_state(folder: Path) -> StateDirectory:
    """Return the state directory of a new run.

    Raises:
        DemoError: a platform of an earlier run is still up there.
    """
    state = StateDirectory(folder.absolute())
    if state.is_locked():
        raise DemoError(f"a platform still runs in {folder}; end it with `penstock down --state {folder}`")
    return state
