"""The gateway of a local platform: one process that reads the snapshot file and writes usage to the spool."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import httpx2
import msgspec

from penstock.errors import UserError
from penstock.local.processes import ManagedProcess, end_session, start_process
from penstock.local.state import StateDirectory
from penstock.routing.load import GatewayLoad

_START_TIMEOUT_S = 120.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """Where the gateway listens."""

    data_host: str
    data_port: int
    admin_host: str
    admin_port: int

    @property
    def data_url(self) -> str:
        """Base of the OpenAI paths."""
        return f"http://{_dialable(self.data_host)}:{self.data_port}"

    @property
    def admin_url(self) -> str:
        """Base of the admin API."""
        return f"http://{_dialable(self.admin_host)}:{self.admin_port}"


def require_gateway() -> None:
    """Check that the gateway's packages are installed, without importing them.

    Raises:
        UserError: one is absent; the message names the extra.
    """
    for module in ("fastapi", "uvloop", "httptools", "prometheus_client"):
        if find_spec(module) is None:
            raise UserError(f"the gateway needs {module}; install the extra `penstock[gateway]`")


def gateway_environment(
    state: StateDirectory, address: GatewayAddress, drain_s: float, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Return the gateway's settings; those that the user set stay, but for where things are."""
    return {
        **inherited,
        "PENSTOCK_GATEWAY_DATA_HOST": address.data_host,
        "PENSTOCK_GATEWAY_DATA_PORT": str(address.data_port),
        "PENSTOCK_GATEWAY_ADMIN_HOST": address.admin_host,
        "PENSTOCK_GATEWAY_ADMIN_PORT": str(address.admin_port),
        "PENSTOCK_GATEWAY_SNAPSHOT_FILE": str(state.snapshot),
        "PENSTOCK_GATEWAY_PEPPER_FILE": str(state.pepper),
        "PENSTOCK_GATEWAY_SPOOL_DIRECTORY": str(state.spool),
        "PENSTOCK_GATEWAY_DEADLINES__DRAIN_S": str(drain_s),
    }


class GatewayProcess:
    """The gateway's process, which may be started more than once in the life of a platform."""

    def __init__(
        self,
        state: StateDirectory,
        address: GatewayAddress,
        drain_s: float,
        record: Callable[[ManagedProcess], None],
    ) -> None:
        """Prepare to start it.

        Args:
            state: Where its snapshot, pepper, spool and log are.
            address: Where it is to listen.
            drain_s: How long streams may go on after `end`.
            record: Called with each process started.
        """
        self._state = state
        self._address = address
        self._drain_s = drain_s
        self._record = record
        self._process: ManagedProcess | None = None

    def start(self) -> None:
        """Start it; `wait_ready` says when it serves."""
        self._process = start_process(
            "gateway",
            [sys.executable, "-m", "penstock_gateway"],
            env=gateway_environment(self._state, self._address, self._drain_s, os.environ),
            log=self._state.logs / "gateway.log",
            cwd=self._state.root,
        )
        self._record(self._process)

    def exit_code(self) -> int | None:
        """Return how it ended, or None while it runs or has not been started."""
        return None if self._process is None else self._process.exit_code()

    async def wait_ready(self, http: httpx2.AsyncClient) -> None:
        """Wait until it reports its load.

        Raises:
            UserError: it ended, or did not answer in time; the message holds the end of its log.
        """
        process = self._process
        deadline = time.monotonic() + _START_TIMEOUT_S
        while process is not None and time.monotonic() < deadline:
            if (code := process.exit_code()) is not None:
                raise UserError(f"the gateway ended with code {code}; {process.log} ends:\n{process.log_tail()}")
            if await read_load(http, self._address) is not None:
                return
            await asyncio.sleep(_POLL_S)
        raise UserError(f"the gateway did not answer within {_START_TIMEOUT_S:.0f} s; see {self._state.logs}")

    async def end(self) -> None:
        """Let its streams finish, then end it."""
        if self._process is not None:
            await end_session(self._process.identity, grace_s=self._drain_s + 5.0, popen=self._process.popen)


async def read_load(http: httpx2.AsyncClient, address: GatewayAddress) -> GatewayLoad | None:
    """Return the gateway's load report, or None when it gives none."""
    try:
        response = await http.get(f"{address.admin_url}/load")
        response.raise_for_status()
        return msgspec.json.decode(response.content, type=GatewayLoad)
    except (httpx2.HTTPError, msgspec.DecodeError):
        return None


async def wait_for_version(http: httpx2.AsyncClient, address: GatewayAddress, version: int, *, within_s: float) -> bool:
    """Wait until the gateway routes by a snapshot at least as new as `version`; False when it does not in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        load = await read_load(http, address)
        if load is not None and load.snapshot_version >= version:
            return True
        await asyncio.sleep(_POLL_S)
    return False


def _dialable(host: str) -> str:
    return "127.0.0.1" if host in {"", "0.0.0.0"} else host  # noqa: S104 - compared with, not bound to
