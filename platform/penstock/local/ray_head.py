"""A Ray head for one platform on one machine: its own folder, its own token, loopback wherever Ray has the choice.

Ray replaces 127.0.0.1 by the host's address for its own services (GCS, raylet, object manager), which listen on every
interface. The token is therefore always on: without it those ports run anybody's code.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from penstock.errors import UserError
from penstock.local import procfs
from penstock.local.fit import Machine
from penstock.local.ports import LOOPBACK
from penstock.local.processes import ManagedProcess, end_session, start_process
from penstock.local.state import StateDirectory
from penstock.serve.client import ServeClient
from penstock.serve.errors import ServeError, ServeUnauthorizedError

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 300.0
_GRACE_S = 8.0
_POLL_S = 0.25
_OBJECT_STORE_BYTES = 100_000_000
"""Serve keeps next to nothing there."""
_MIN_DRAIN_S = 5
"""Serve's least drain with ports of their own for replicas; its default of 30 s is for slow load balancers."""


@dataclass(frozen=True, slots=True)
class RayPorts:
    """Ports that two platforms on one machine must not share."""

    gcs: int
    dashboard: int
    client_server: int
    agent: int
    proxy: int
    """Serve's own HTTP proxy, which nobody is sent to."""


def require_engine() -> None:
    """Check that Ray and vLLM are installed, without importing them.

    Raises:
        UserError: one is absent; the message names the extra.
    """
    for module, program in (("ray", "Ray Serve"), ("vllm", "vLLM")):
        if find_spec(module) is None:
            raise UserError(
                f"{program} is not installed; install the extra `penstock[engine-cpu]` "
                "(or `penstock[engine-gpu]` on a machine with GPUs) into this Python environment"
            )


def head_argv(ports: RayPorts, temp_dir: Path, machine: Machine) -> list[str]:
    """Return the command line of the head."""
    return [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        f"--node-ip-address={LOOPBACK}",
        f"--port={ports.gcs}",
        "--include-dashboard=true",
        f"--dashboard-host={LOOPBACK}",
        f"--dashboard-port={ports.dashboard}",
        f"--dashboard-agent-listen-port={ports.agent}",
        f"--ray-client-server-port={ports.client_server}",
        f"--num-cpus={machine.cpus}",
        f"--num-gpus={machine.gpus}",
        f"--object-store-memory={_OBJECT_STORE_BYTES}",
        "--disable-usage-stats",
        f"--temp-dir={temp_dir / 'ray'}",
    ]


def head_environment(state: StateDirectory, temp_dir: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of Ray and thereby of every engine."""
    return {
        # Of two ways to say how many threads an engine may have, the one in the application's own settings counts.
        **{name: value for name, value in inherited.items() if not name.startswith("RAY_")},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(state.ray_token),
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(_MIN_DRAIN_S),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_LOG_TO_STDERR": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "TMPDIR": str(temp_dir / "tmp"),
    }


class RayHead:
    """Ray's processes, all below one `ray start --block`."""

    def __init__(
        self,
        state: StateDirectory,
        ports: RayPorts,
        temp_dir: Path,
        machine: Machine,
        record: Callable[[ManagedProcess], None],
    ) -> None:
        """Prepare to start it.

        Args:
            state: Where its token and log are.
            ports: Where it is to listen.
            temp_dir: For its session and for all temporary files below it.
            machine: What it may hand out.
            record: Called with each process started.
        """
        self._state = state
        self._argv = head_argv(ports, temp_dir, machine)
        self._env = head_environment(state, temp_dir, os.environ)
        self._temp_dir = temp_dir
        self._record = record
        self._process: ManagedProcess | None = None

    async def start(self, client: ServeClient) -> None:
        """Start it and wait until Serve's REST API answers; try again when it ends, for a busy machine's sake.

        Raises:
            UserError: it ended each time, or did not answer in time; the message holds the end of its log.
        """
        for last in (False, False, True):  # it gives its own parts 30 s to start, and no flag gives them more
            process = self._process = start_process(
                "ray-head", self._argv, env=self._env, log=self._state.logs / "ray-head.log", cwd=self._temp_dir
            )
            self._record(process)
            if await _answers(process, client):
                return
            if last:
                raise UserError(self.ended())
            logger.warning("%s; trying again", self.ended())
            await end_session(process.identity, grace_s=0, popen=process.popen)

    def exit_code(self) -> int | None:
        """Return how it ended, or None while it runs or has not been started."""
        return None if self._process is None else self._process.exit_code()

    def ended(self) -> str:
        """Return in words how it ended, with the end of its log."""
        if self._process is None:
            return "Ray was not started"
        return f"Ray ended with code {self.exit_code()}; {self._process.log} ends:\n{self._process.log_tail()}"

    def pids(self) -> list[int]:
        """Return all its processes, engines among them."""
        return [] if self._process is None else procfs.session_members(self._process.identity)

    async def end(self) -> None:
        """End it and everything below it."""
        if self._process is not None:
            await end_session(self._process.identity, grace_s=_GRACE_S, popen=self._process.popen)


async def _answers(head: ManagedProcess, client: ServeClient) -> bool:
    """Wait until Serve's REST API answers; False when Ray ends first.

    Raises:
        UserError: no answer in time, or another Ray's.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    last: ServeError | None = None
    while time.monotonic() < deadline:
        if head.exit_code() is not None:
            return False
        try:
            await client.status()
        except ServeUnauthorizedError as error:
            raise UserError(f"another Ray answers at the dashboard's port: {error}; give --dashboard-port") from error
        except ServeError as error:
            last = error
        else:
            return True
        await asyncio.sleep(_POLL_S)
    raise UserError(f"Ray did not answer within {_START_TIMEOUT_S:.0f} s ({last}); see {head.log}")
