"""The connections to one replica that are idle, and those that are being made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from penstock_gateway.relay.upstream import UpstreamConnection

LATE_S: Final = 0.05
"""A loop that stood still learns that time is up before it learns what came meanwhile: so long it looks once more."""


class Pool:
    """Idle connections to one replica, the latest used first, so that the others grow old and go."""

    __slots__ = ("_closed", "_connect_s", "_host", "_idle", "_port", "_tasks")

    def __init__(self, host: str, port: int, *, connect_s: float) -> None:
        self._host = host
        self._port = port
        self._connect_s = connect_s
        self._idle: list[UpstreamConnection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def take(self) -> UpstreamConnection | None:
        """Return an idle connection, if there is one."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
        return None

    def connect(
        self, on_connected: Callable[[UpstreamConnection], None], on_failed: Callable[[BaseException], None]
    ) -> asyncio.Task[None]:
        """Open a new connection; exactly one of both is called, later, unless the task is cancelled."""
        task = asyncio.get_running_loop().create_task(self._connect(on_connected, on_failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request."""
        if self._closed:
            connection.close()
            return
        connection.idle_since_s = time.monotonic()
        self._idle.append(connection)

    def discard(self, connection: UpstreamConnection) -> None:
        """Forget a connection that is gone."""
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, now_s: float, idle_s: float) -> None:
        """Close connections idle for longer than `idle_s`."""
        old = [connection for connection in self._idle if now_s - connection.idle_since_s > idle_s]
        for connection in old:
            self._idle.remove(connection)
            connection.close()

    def close(self) -> None:
        """Close idle connections, and the others as they become idle."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def _connect(
        self, on_connected: Callable[[UpstreamConnection], None], on_failed: Callable[[BaseException], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        connecting = loop.create_task(
            loop.create_connection(lambda: UpstreamConnection(self), self._host, self._port), name="connect"
        )
        try:
            done, _ = await asyncio.wait({connecting}, timeout=self._connect_s)
            if not done:
                done, _ = await asyncio.wait({connecting}, timeout=LATE_S)
        finally:
            connecting.cancel()  # one that is done hears nothing of it
        if not done:
            on_failed(TimeoutError(f"no connection within {self._connect_s:g} s"))
        elif (error := connecting.exception()) is not None:
            on_failed(error)
        else:
            on_connected(connecting.result()[1])
