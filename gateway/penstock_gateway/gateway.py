"""One gateway process put together: what it consists of, how it starts, drains and stops."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.cost.spool import SpoolWriter
from penstock.routing.load import GatewayLoad
from penstock.routing.snapshot import RoutingSnapshot
from penstock_gateway.admin.server import AdminServer
from penstock_gateway.admin.token import AdminToken
from penstock_gateway.clock import Clock
from penstock_gateway.discovery.file import SnapshotFile
from penstock_gateway.discovery.fleet import Fleet
from penstock_gateway.discovery.source import Apply, Source
from penstock_gateway.load.ejection import Ejections
from penstock_gateway.load.poller import LoadPoller
from penstock_gateway.metering.access import log_entry
from penstock_gateway.metering.marks import MARK_PERIOD_S, mark_of
from penstock_gateway.metering.meter import Meter
from penstock_gateway.relay.context import Relay
from penstock_gateway.relay.drain import Connections
from penstock_gateway.relay.pool import LATE_S
from penstock_gateway.relay.server import ClientConnection
from penstock_gateway.settings import Settings
from penstock_gateway.tenants.directory import TenantDirectory
from penstock_usage.settings import RedisUrl

if TYPE_CHECKING:
    from penstock_usage.shipper import Shipper

logger = logging.getLogger(__name__)

_BACKLOG = 4096
"""Connections the kernel holds for us while a burst is accepted."""


class Gateway:
    """A gateway process. `start`, then `drain` and `stop`, on one event loop.

    Args:
        settings: As read at the process's start.

    Raises:
        OSError: the pepper or the admin token cannot be read, or the spool cannot be written.
        StartError: there is no cluster to discover anything in.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.process = secrets.token_hex(8)
        """Random at start, so that readers of `/load` notice that counters began again."""
        self._pepper = _read_pepper(settings.pepper_file)
        self._spool = SpoolWriter(settings.spool_directory, "gateway", limit_bytes=settings.spool_limit_bytes)
        self.shipper = _shipper(settings, self._spool)
        self.fleet = Fleet(connect_s=settings.deadlines.connect_s)
        self.ejections = Ejections(settings.retries)
        self.admin_token = AdminToken(settings.admin_token, settings.admin_token_file)
        clock = Clock()
        self.relay = Relay(
            settings=settings,
            clock=clock,
            fleet=self.fleet,
            tenants=TenantDirectory(RoutingSnapshot(), None, now_s=time.monotonic()),
            meter=Meter(self._spool, clock, log_access=log_entry if settings.access_log else None),
            ejector=self.ejections,
            is_admin=self.admin_token.proves,
        )
        self.discovery = _source(settings, self.apply)
        self.poller = LoadPoller(self.fleet, period_s=settings.load_poll_s)
        self.connections = Connections()
        self._server: asyncio.Server | None = None
        self._admin = AdminServer(self)
        self._tasks: list[asyncio.Task[None]] = []
        self._shipping: asyncio.Task[None] | None = None
        self.failed: str | None = None
        """A task that ended although it never should, by name: only a new process helps."""
        self.data_address = ("", 0)
        self.admin_address = ("", 0)

    async def start(self) -> None:
        """Read the snapshot, then listen on both ports.

        Raises:
            OSError: a port is taken, or an address is not this machine's.
        """
        settings = self.settings
        self.discovery.prepare()
        # From the first request on the ledger waits for this process's word.
        self._mark(time.monotonic())
        loop = asyncio.get_running_loop()
        self.admin_address = await self._admin.start(settings.admin_host, settings.admin_port)
        self._server = await loop.create_server(
            lambda: ClientConnection(self.relay, self.connections),
            settings.data_host,
            settings.data_port,
            backlog=_BACKLOG,
            reuse_port=settings.reuse_port or None,
        )
        self.data_address = _address(self._server.sockets[0])
        self._tasks = [
            loop.create_task(self.discovery.run(), name="discovery"),
            loop.create_task(self.poller.run(), name="load"),
            loop.create_task(self._sweep(settings.deadlines.sweep_s), name="sweep"),
        ]
        if self.shipper is not None:
            self._shipping = loop.create_task(self.shipper.run(), name="usage")
            self._shipping.add_done_callback(self._ended)
        for task in self._tasks:
            task.add_done_callback(self._ended)
        logger.info("listening: data %s port %d, admin %s port %d", *self.data_address, *self.admin_address)

    def apply(self, snapshot: RoutingSnapshot, *, confirmed: bool = True) -> None:
        """Swap to a snapshot: routes, replicas and tenants at once.

        Args:
            snapshot: The new one.
            confirmed: False while it is remembered from an earlier life of this process.
        """
        tenants = TenantDirectory(snapshot, self._pepper, now_s=time.monotonic(), before=self.relay.tenants)
        if self._pepper is None and any(tenant.key_hashes for tenant in snapshot.tenants):
            logger.error("tenants have keys but PENSTOCK_GATEWAY_PEPPER_FILE is not set: every key will be refused")
        self.fleet.apply(snapshot)
        self.relay.tenants = tenants
        self.relay.confirmed = confirmed
        logger.info(
            "routing snapshot %d: %d models, %d replicas, %d tenants",
            snapshot.version, len(snapshot.models), len(snapshot.replicas), len(snapshot.tenants),
        )  # fmt: skip

    def load(self) -> GatewayLoad:
        """Return this process's counters."""
        return GatewayLoad(
            process=self.process,
            at_s=time.time(),
            snapshot_version=self.fleet.snapshot.version,
            models=tuple(self.fleet.loads),
            routable=tuple(replica.id for replica in self.fleet.replicas.values() if not replica.draining),
        )

    async def drain(self) -> None:
        """Say that no more is wanted, serve on until that is known, then let what runs end.

        For `deadlines.drain_delay_s` new connections are still taken, each for one answer; what runs after that has
        `deadlines.drain_s`.
        """
        self.relay.draining = True
        await asyncio.sleep(self.settings.deadlines.drain_delay_s)
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(LATE_S)  # those taken last have sent their requests by then
        if not await self.connections.drain(self.settings.deadlines.drain_s):
            logger.warning("%d connections did not end within the drain's deadline", len(self.connections))

    async def stop(self) -> None:
        """Drop what is left and let go of everything."""
        self.relay.draining = True
        if self._server is not None:
            self._server.close()
        self.connections.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.ejections.close()
        self.fleet.close()
        await self._admin.stop()
        await asyncio.sleep(0)  # aborted connections account for what they held
        self._spool.close()
        await self._flush()

    async def _flush(self) -> None:
        """Let the ledger have the last records."""
        if self.shipper is None or self._shipping is None:
            return
        left_bytes = 0 if self._shipping.done() else await self.shipper.flush(self.settings.flush_s)
        if left_bytes:
            logger.warning("%d bytes of records stay in %s", left_bytes, self.settings.spool_directory)
        self._shipping.cancel()
        await asyncio.gather(self._shipping, return_exceptions=True)

    async def _sweep(self, period_s: float) -> None:
        marked_s = 0.0
        excused = False
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(period_s)
            self.relay.clock.refresh()
            now_s = time.monotonic()
            excused = not excused and now_s - began_s > 2 * period_s + LATE_S
            if excused:
                # The process stood still. What replicas and clients sent meanwhile is yet to be read: a deadline that
                # passed in that time may be nobody's fault.
                continue
            for connection in self.connections:
                connection.tick(now_s)
            self.fleet.sweep(now_s, self.settings.deadlines.upstream_idle_s)
            if now_s >= marked_s + MARK_PERIOD_S:
                marked_s = now_s
                self._mark(now_s)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed = task.get_name()
            logger.critical("a defect in the gateway ended its task %r", self.failed, exc_info=error)

    def _mark(self, now_s: float) -> None:
        unix_s = self.relay.clock.unix_s
        under_way = [
            (where[0], unix_s(where[1]))
            for connection in self.connections
            if (where := connection.under_way()) is not None
        ]
        self.relay.meter.mark(mark_of(self._spool.identity, unix_s(now_s), under_way))


def _source(settings: Settings, apply: Apply) -> Source:
    """Return what the settings name: a file, or a cluster."""
    if settings.snapshot_file is not None:
        return SnapshotFile(settings.snapshot_file, apply, period_s=settings.snapshot_poll_s)
    # A gateway that reads a file starts faster and smaller without a Kubernetes client, and needs none installed.
    from penstock_gateway.discovery.kubernetes import KubernetesDiscovery  # noqa: PLC0415 - see above

    return KubernetesDiscovery(settings.kubernetes, apply)


def _shipper(settings: Settings, spool: SpoolWriter) -> Shipper | None:
    where = RedisUrl.of(settings.redis_url, settings.redis_url_file)
    if where is None:
        return None
    from penstock_usage.shipper import Shipper  # noqa: PLC0415 - needs no client of Redis where none is named

    return Shipper(spool, where, settings.stream)


def _read_pepper(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _address(sock: socket.socket) -> tuple[str, int]:
    host, port, *_ = sock.getsockname()
    return host, port
