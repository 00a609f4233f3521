"""Runs the admin application on uvicorn, in the gateway's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import TYPE_CHECKING

import uvicorn

from penstock_gateway.admin.app import build_app

if TYPE_CHECKING:
    from penstock_gateway.gateway import Gateway

_STOP_S = 2


class _Uvicorn(uvicorn.Server):
    """A uvicorn server that leaves signals to the process it is part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take none."""
        yield


class AdminServer:
    """The admin port of one gateway process."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; return the address taken.

        Raises:
            OSError: the port is taken, or the address is not this machine's.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family, backlog=128)
        config = uvicorn.Config(
            build_app(self._gateway),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_STOP_S,
        )
        self._server = _Uvicorn(config)
        # Accepting starts with the next steps of the loop; the socket holds connections until then.
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[sock]), name="admin")
        address = sock.getsockname()
        return address[0], address[1]

    async def stop(self) -> None:
        """Close the port and end what is being answered."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
