"""One ledger process put together: lock, books, stream and answers, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from penstock.cost.metrics import CostCollector
from penstock_operator.ledger.api import LedgerApi
from penstock_operator.ledger.lock import DatabaseLock
from penstock_operator.ledger.metrics import LedgerCollector
from penstock_operator.ledger.service import DATABASE_FAULTS, LedgerService
from penstock_operator.ledger.settings import Settings
from penstock_operator.runtime.health import Health, serve_health
from penstock_usage.consumer import Consumer

logger = logging.getLogger(__name__)

_LOCK_PERIOD_S: Final = 1.0


async def run_ledger(settings: Settings, *, on_port: Callable[[int], None] = lambda port: None) -> None:
    """Run until cancelled.

    Args:
        settings: As read at the process's start.
        on_port: Told where the answers are, once reports can be asked for.

    Raises:
        OSError: the port is taken, or the database's folder cannot be made.
        sqlite3.Error: the database is no ledger, or cannot be written.
        LedgerVersionError: a newer Penstock wrote it.
    """
    lock = DatabaseLock(settings.database)
    try:
        await _wait_for(lock, settings)
        service = LedgerService(settings)
        try:
            identity = await service.open()
            await _serve(settings, service, identity, on_port)
        finally:
            await service.close()
    finally:
        lock.release()


async def _wait_for(lock: DatabaseLock, settings: Settings) -> None:
    """Wait until no other process writes the database, as while the pod before this one ends; not ready until then."""
    if lock.take():
        return
    problem = f"another process holds {lock.path} and writes these books; waiting for it to end"
    logger.warning("%s", problem)
    health = Health()
    health.add_readiness("database", lambda: problem)
    async with serve_health(health, CollectorRegistry(), host=settings.http_host, port=settings.http_port):
        while not lock.take():  # noqa: ASYNC110 - a lock of the kernel tells nobody
            await asyncio.sleep(_LOCK_PERIOD_S)


async def _serve(settings: Settings, service: LedgerService, identity: str, on_port: Callable[[int], None]) -> None:
    where = settings.where
    assert where is not None, "settings without Redis are refused"  # noqa: S101 - narrows a type
    consumer = Consumer(where, settings.stream, identity=identity, take=service.take, faults=DATABASE_FAULTS)
    registry = CollectorRegistry()
    registry.register(CostCollector(lambda: service.state.reports))
    registry.register(LedgerCollector(service, consumer))
    health = Health()
    await service.settle()
    health.add_readiness("books", lambda: service.state.problem if service.state.reports is None else None)
    api = LedgerApi(health, registry, service, consumer)
    runner = web.AppRunner(api.application(), access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.http_host, settings.http_port).start()
        port: int = runner.addresses[0][1]
        logger.info("ledger %s of %s: listening on port %d", identity, settings.database, port)
        on_port(port)
        async with asyncio.TaskGroup() as group:
            group.create_task(consumer.run(), name="stream")
            group.create_task(service.settling(), name="settling")
    finally:
        await consumer.close()
        await runner.cleanup()
