"""The open client connections of a process, and how they are let go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_gateway.relay.server import ClientConnection


class Connections:
    """A set that can be waited on."""

    __slots__ = ("_empty", "_open")

    def __init__(self) -> None:
        self._open: set[ClientConnection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[ClientConnection]:
        return iter(list(self._open))

    def add(self, connection: ClientConnection) -> None:
        """A client connected."""
        self._open.add(connection)
        self._empty.clear()

    def discard(self, connection: ClientConnection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        if not self._open:
            self._empty.set()

    async def drain(self, within_s: float) -> bool:
        """Close idle connections and wait for the others to end; return whether all did in time."""
        for connection in self:
            connection.drain()
        try:
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def abort(self) -> None:
        """Drop all."""
        for connection in self:
            connection.abort()
