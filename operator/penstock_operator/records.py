"""The operator's money records: its spool, what its leader promises in it, and the way to the ledger."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Final

from prometheus_client.registry import Collector

from penstock.cost.records import InFlightMark, ReplicaCensus, SpoolLine
from penstock.cost.spool import SpoolWriter
from penstock_operator.settings import Settings
from penstock_usage.metrics import ShipperCollector
from penstock_usage.settings import RedisUrl
from penstock_usage.shipper import Shipper

logger = logging.getLogger(__name__)

MARK_PERIOD_S: Final = 1.0
CENSUS_PERIOD_S: Final = 30.0
"""How long at most a replica that ended while nobody looked is paid for by the books."""

Present = Callable[[], Collection[str] | None]
"""Returns every replica there is, of all namespaces; None while some cluster has not been looked at yet."""


class Records:
    """One for a process. `run` ships, in standbys too, for what an earlier process of the pod left; `lead` promises.

    Args:
        settings: As read at the process's start.
        clock: Unix seconds.

    Raises:
        OSError: the spool cannot be written.
        RedisUrlError: the URL is none of Redis.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        where = RedisUrl.of(settings.redis_url, settings.redis_url_file)
        self._spool = SpoolWriter(settings.spool_directory, "operator", limit_bytes=settings.spool_limit_bytes)
        self._shipper = None if where is None else Shipper(self._spool, where, settings.stream)
        self._flush_s = settings.flush_s
        self._clock = clock
        self._shipping: asyncio.Task[None] | None = None
        self.lost = 0
        """Records that no disk took."""

    def emit(self, record: SpoolLine) -> None:
        """Write a record. A disk that takes none stops no controller: the loss is counted and logged."""
        try:
            self._spool.append(record)
        except OSError as error:
            self.lost += 1
            logger.error("a record of money is lost, the spool cannot be written: %s", error)  # noqa: TRY400 - expected

    def collector(self) -> Collector | None:
        """Return the shipper's metrics for the process's registry; None without a Redis."""
        return None if self._shipper is None else ShipperCollector(self._shipper)

    def condition(self) -> str | None:
        """Return one line that says what is wrong with the way to the ledger, or None."""
        return None if self._shipper is None else self._shipper.condition()

    async def run(self) -> None:
        """Ship until cancelled, then let the ledger have the last records and close the spool."""
        if self._shipper is None:
            try:
                await asyncio.Event().wait()
            finally:
                self._spool.close()
            return
        shipping = asyncio.create_task(self._shipper.run(), name="shipper")
        try:
            await asyncio.shield(shipping)
        finally:
            self._spool.close()
            if not shipping.done():
                left_bytes = await self._shipper.flush(self._flush_s)
                if left_bytes:
                    logger.warning("%d bytes of records stay in %s", left_bytes, self._spool.directory)
                shipping.cancel()
                await asyncio.gather(shipping, return_exceptions=True)

    async def lead(self, present: Present) -> None:
        """Promise, until cancelled, that what is known is written, and say which replicas there are.

        The ledger settles nothing beyond the last promise. Only the leader may promise: run it when leading begins.
        """
        counted_s = float("-inf")
        while True:
            now_s = self._clock()
            if now_s >= counted_s + CENSUS_PERIOD_S and (replicas := present()) is not None:
                counted_s = now_s
                self.emit(ReplicaCensus(at_s=now_s, replicas=tuple(sorted(replicas))))
            self.emit(InFlightMark(writer=self._spool.identity, at_s=now_s, oldest_start_s={}))
            await asyncio.sleep(MARK_PERIOD_S)
