"""The shipper: copies a process's spool into the usage stream, and deletes what the ledger has committed.

It runs beside what appends to the spool and shares nothing with it but the directory, so that a Redis that is away,
slow or full never makes a request wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.backoff import AbstractBackoff, ExponentialWithJitterBackoff
from redis.exceptions import RedisError

from penstock.cost.deliveries import Delivery
from penstock.cost.spool import SpoolWriter
from penstock_usage.connection import STREAM_FAULTS, connect, problem_of
from penstock_usage.lag import Lag
from penstock_usage.plan import Sent, Shipment, with_answer, with_sent
from penstock_usage.settings import RedisUrl, StreamOptions
from penstock_usage.spool import Sight, SpoolFolder
from penstock_usage.wire import Keys, decode_acknowledgement, encode_delivery

logger = logging.getLogger(__name__)

_BUSY_PERIOD_S: Final = 0.05
"""Between two looks while more waits than fits the window, or a flush is wanted."""


@dataclass(slots=True)
class ShipperState:
    """What metrics and people are told. Counters begin with the process."""

    spool_bytes: int = 0
    """Of all segments in the directory."""
    waiting_bytes: int = 0
    """Of those, in segments of ours and not acknowledged."""
    entries: int = 0
    """Entries in the stream at the last look, everybody's."""
    records_shipped: int = 0
    """Lines added to the stream; those sent again count again."""
    records_acknowledged: int = 0
    resent: int = 0
    """Times that what was in flight was lost and sent again."""
    lag_s: float = 0.0
    """Age of the oldest record that is not known to be committed, within a factor of two."""
    problem: str | None = None
    """Why the last look failed; None when it did not."""
    since_s: float = 0.0
    """Since when `problem` holds, by the shipper's clock."""


class Shipper:
    """Ships one spool directory. `run` it as a task; `flush` before the process ends.

    Args:
        spool: The process's own writer; its directory and limit are the shipper's too.
        where: Redis.
        options: The stream.
        clock: Monotonic seconds.
        backoff: Waits between tries while Redis is away.
    """

    def __init__(
        self,
        spool: SpoolWriter,
        where: RedisUrl,
        options: StreamOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        backoff: AbstractBackoff | None = None,
    ) -> None:
        self.state = ShipperState()
        self.limit_bytes = spool.limit_bytes
        self._where = where
        self._options = options
        self._clock = clock
        self._backoff = backoff or ExponentialWithJitterBackoff(cap=options.backoff_max_s, base=options.backoff_min_s)
        self._client_name = f"penstock-{spool.identity}"
        self._folder = SpoolFolder(spool.directory, spool.identity)
        self._keys = Keys(options.name)
        self._shipments: dict[str, Shipment] = {}
        self._lag = Lag(clock())
        self._redis: Redis | None = None
        self._wake = asyncio.Event()
        self._flushing = False
        self._flushed = asyncio.Event()

    async def run(self) -> None:
        """Ship until cancelled."""
        failures = 0
        try:
            while True:
                try:
                    busy = await self._look()
                except STREAM_FAULTS as error:
                    failures += 1
                    self._note(problem_of(error))
                    await self._disconnect()
                    pause_s = self._backoff.compute(failures)
                else:
                    failures = 0
                    self._note(None)
                    pause_s = _BUSY_PERIOD_S if busy or self._flushing else self._options.period_s
                await self._pause(pause_s)
        finally:
            await self._disconnect()
            self._folder.close()

    async def flush(self, within_s: float) -> int:
        """Wait until the ledger has committed all this process wrote. Close the spool's writer first.

        Args:
            within_s: For how long at most.

        Returns:
            Bytes that stay behind in the spool, for the next process that ships the directory.
        """
        self._flushing = True
        self._flushed.clear()
        self._wake.set()
        try:
            async with asyncio.timeout(within_s):
                await self._flushed.wait()
        except TimeoutError:
            return self.state.waiting_bytes
        finally:
            self._flushing = False
        return 0

    def condition(self) -> str | None:
        """Return one line that says what is wrong with the way of records, or None."""
        state = self.state
        full = self.limit_bytes is not None and state.spool_bytes >= self.limit_bytes
        if full:
            return (
                f"the spool has reached its limit of {self.limit_bytes} bytes: records are being lost; "
                f"look at the ledger and at Redis{'' if state.problem is None else f' ({state.problem})'}"
            )
        if state.problem is not None:
            away_s = self._clock() - state.since_s
            return f"the usage stream is away for {away_s:.0f} s, {state.waiting_bytes} bytes wait: {state.problem}"
        return None

    async def _look(self) -> bool:
        """Go once through the spool; return whether there is more than could be sent."""
        sight = await asyncio.to_thread(self._folder.look)
        self.state.spool_bytes = sum(sight.sizes_bytes.values())
        self._shipments = {name: self._shipments.get(name) or Shipment(name) for name in sight.sources}
        self._measure(sight)
        await self._ask()
        complete = [name for name, shipment in self._shipments.items() if shipment.complete]
        for name in complete:
            await asyncio.to_thread(self._folder.delete, name)
        more = await self._send(sight)
        self._measure(sight)
        if sight.own_segments == 0:
            self._flushed.set()
        return more or bool(complete)

    async def _ask(self) -> None:
        """Look at what is acknowledged, and whether what is in flight is still in the stream, at one moment."""
        before = list(self._shipments.values())
        pipe = (await self._connected()).pipeline(transaction=True)
        pipe.xlen(self._keys.stream)
        for shipment in before:
            pipe.get(self._keys.acknowledged(shipment.segment))
            if shipment.oldest is not None:
                pipe.xrange(self._keys.stream, min=shipment.oldest, max=shipment.oldest)
        answers: list[Any] = await pipe.execute()
        answers.reverse()
        self.state.entries = answers.pop()
        for shipment in before:
            acknowledged = decode_acknowledgement(answers.pop())
            present = bool(answers.pop()) if shipment.oldest is not None else True
            after = with_answer(shipment, acknowledged, oldest_present=present)
            self._count(shipment, after)
            self._shipments[shipment.segment] = after

    async def _send(self, sight: Sight) -> bool:
        """Add to the stream what fits the window; return whether more waits."""
        room_bytes = self._options.window_bytes - sum(one.in_flight_bytes for one in self._shipments.values())
        more = False
        for name, shipment in list(self._shipments.items()):
            if shipment.sealed:
                continue
            if room_bytes <= 0 or self.state.entries >= self._options.stream_entries:
                return True
            source = sight.sources[name]
            deliveries = await asyncio.to_thread(
                self._folder.read, source, shipment.sent_bytes, self._options.batch_bytes, room_bytes
            )
            if deliveries:
                sent, refused = await self._add(deliveries)
                self._shipments[name] = after = with_sent(shipment, sent)
                if refused is not None:
                    raise refused
                room_bytes -= after.in_flight_bytes - shipment.in_flight_bytes
                more = more or after.sealed
        return more or room_bytes <= 0

    async def _add(self, deliveries: Sequence[Delivery]) -> tuple[list[Sent], RedisError | None]:
        """Add deliveries to the stream; return those that it took before the first one that it refused, and why."""
        # Not all or nothing: a Redis that is nearly full takes what fits.
        pipe = (await self._connected()).pipeline(transaction=False)
        for delivery in deliveries:
            pipe.xadd(self._keys.stream, encode_delivery(delivery))  # type: ignore[arg-type]  # the key type is invariant
        answers: list[bytes | RedisError] = await pipe.execute(raise_on_error=False)
        sent: list[Sent] = []
        refused: RedisError | None = None
        for answer, delivery in zip(answers, deliveries, strict=True):
            if isinstance(answer, RedisError):
                refused = answer
                break
            sent.append(
                Sent(
                    entry=answer,
                    start_bytes=delivery.start_bytes,
                    end_bytes=delivery.start_bytes + len(delivery.data),
                    records=delivery.data.count(b"\n"),
                    sealed=delivery.sealed,
                )
            )
        self.state.entries += len(sent)
        self.state.records_shipped += sum(one.records for one in sent)
        return sent, refused

    def _count(self, before: Shipment, after: Shipment) -> None:
        self.state.records_acknowledged += after.acknowledged_records - before.acknowledged_records
        if after.resent > before.resent:
            self.state.resent += 1
            logger.warning(
                "%s: what the stream held of it from byte %d on is gone and not acknowledged; it is sent again",
                after.segment, after.acknowledged_bytes,
            )  # fmt: skip

    def _measure(self, sight: Sight) -> None:
        """Say how much waits and for how long."""
        acknowledged = {
            name: sight.sizes_bytes.get(name, 0) if one.complete else one.acknowledged_bytes
            for name, one in self._shipments.items()
        }
        sizes = {name: sight.sizes_bytes[name] for name in acknowledged if name in sight.sizes_bytes}
        self.state.waiting_bytes = sum(max(size - acknowledged[name], 0) for name, size in sizes.items())
        self.state.lag_s = self._lag.seen(sizes, acknowledged, self._clock())

    def _note(self, problem: str | None) -> None:
        if problem is not None and self.state.problem is None:
            self.state.since_s = self._clock()
            logger.warning("the usage stream cannot be reached; records wait in the spool: %s", problem)
        elif problem is None and self.state.problem is not None:
            logger.info("the usage stream is back after %.0f s", self._clock() - self.state.since_s)
        self.state.problem = problem

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _connected(self) -> Redis:
        if self._redis is None:
            self._redis = connect(self._where, self._options, client_name=self._client_name)
        return self._redis

    async def _disconnect(self) -> None:
        redis, self._redis = self._redis, None
        if redis is not None:
            try:
                await redis.aclose()
            except STREAM_FAULTS as error:
                logger.debug("closing the connection: %s", problem_of(error))
