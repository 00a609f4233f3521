"""A Ray head for one platform on one machine: its own folder, its own token, loopback wherever Ray has the choice.

Ray replaces 127.0.0.1 by the host's address for its own services (GCS, raylet, object manager), which listen on every
interface. The token is therefore always on: without it those ports run anybody's code.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from penstock.errors import UserError
from penstock.local.ports import LOOPBACK
from penstock.local.processes import ManagedProcess, start_process
from penstock.local.state import StateDirectory
from penstock.serve.client import ServeClient
from penstock.serve.errors import ServeError, ServeUnauthorizedError

_START_TIMEOUT_S = 120.0
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


def head_argv(ports: RayPorts, temp_dir: Path, num_cpus: int, num_gpus: int | None) -> list[str]:
    """Return the command line of the head."""
    gpus = [] if num_gpus is None else [f"--num-gpus={num_gpus}"]
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
        f"--num-cpus={num_cpus}",
        *gpus,
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


def start_head(
    state: StateDirectory, ports: RayPorts, temp_dir: Path, *, num_cpus: int, num_gpus: int | None
) -> ManagedProcess:
    """Start the head; `wait_for_head` says when it serves."""
    return start_process(
        "ray-head",
        head_argv(ports, temp_dir, num_cpus, num_gpus),
        env=head_environment(state, temp_dir, os.environ),
        log=state.logs / "ray-head.log",
        cwd=temp_dir,
    )


async def wait_for_head(head: ManagedProcess, client: ServeClient) -> None:
    """Wait until Serve's REST API answers.

    Raises:
        UserError: Ray ended, or did not answer in time; the message holds the end of its log.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    last: ServeError | None = None
    while time.monotonic() < deadline:
        if (code := head.exit_code()) is not None:
            raise UserError(f"Ray ended with code {code} while starting; its log {head.log} ends:\n{head.log_tail()}")
        try:
            await client.status()
        except ServeUnauthorizedError as error:
            raise UserError(f"another Ray answers at the dashboard's port: {error}; give --dashboard-port") from error
        except ServeError as error:
            last = error
        else:
            return
        await asyncio.sleep(_POLL_S)
    raise UserError(f"Ray did not answer within {_START_TIMEOUT_S:.0f} s ({last}); see {head.log}")
