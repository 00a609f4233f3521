"""The ledger's end of the usage stream: reads entries, has them committed, says so, and takes them out of the stream.

It keeps no position. What has been taken is deleted from the stream, so that reading from its beginning finds what has
not; whatever comes again is told by its offset. A position would be one more thing that a flushed Redis, or one whose
clock is behind, could make wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio import Redis
from redis.backoff import AbstractBackoff, ExponentialWithJitterBackoff
from redis.exceptions import ExecAbortError, OutOfMemoryError

from penstock.cost.deliveries import Delivery, Intake
from penstock_usage.connection import STREAM_FAULTS, connect, problem_of
from penstock_usage.settings import RedisUrl, StreamOptions
from penstock_usage.wire import (
    ACKNOWLEDGED_S,
    LEASE_S,
    Keys,
    MalformedEntryError,
    decode_delivery,
    encode_acknowledgement,
)

logger = logging.getLogger(__name__)

READ_ENTRIES: Final = 64
"""Entries of one transaction: 4 MiB of the usual ones."""

_BLOCK_MS: Final = 1000
"""How long one read waits for entries; also how often the lease is renewed while none come."""

Take = Callable[[Sequence[Delivery]], Awaitable[Intake]]
"""Commits deliveries, in order; called with none when none came, so that the ledger can tell silence from absence."""


class OtherLedgerError(Exception):
    """Another ledger reads this stream: each would get a part of the records."""


@dataclass(slots=True)
class ConsumerState:
    """What metrics and people are told. Counters begin with the process."""

    entries: int = 0
    """Entries that wait in the stream."""
    deliveries: int = 0
    bytes: int = 0
    records: int = 0
    repeated: int = 0
    gaps: int = 0
    malformed: int = 0
    read_s: float | None = None
    """When the stream was read last, by the consumer's clock."""
    problem: str | None = field(default="no read yet")
    since_s: float = 0.0
    """Since when `problem` holds, by the consumer's clock."""


class Consumer:
    """Feeds a ledger. `run` it as a task.

    Args:
        where: Redis.
        options: The stream.
        identity: The ledger's (`Ledger.identity`).
        take: See `Take`. What it raises, other than the stream's own faults, ends `run`.
        faults: Errors of `take` after which the same deliveries are tried again.
        clock: Monotonic seconds.
        backoff: Waits between tries.
    """

    def __init__(
        self,
        where: RedisUrl,
        options: StreamOptions,
        *,
        identity: str,
        take: Take,
        faults: tuple[type[Exception], ...] = (),
        clock: Callable[[], float] = time.monotonic,
        backoff: AbstractBackoff | None = None,
    ) -> None:
        self.state = ConsumerState(since_s=clock())
        self._where = where
        self._options = options
        self._identity = identity.encode()
        self._take = take
        self._faults: tuple[type[Exception], ...] = (*STREAM_FAULTS, OtherLedgerError, *faults)
        self._clock = clock
        self._backoff = backoff or ExponentialWithJitterBackoff(cap=options.backoff_max_s, base=options.backoff_min_s)
        self._block_ms = min(_BLOCK_MS, max(1, round(options.answer_s * 500)))
        self._keys = Keys(options.name)
        self._redis: Redis | None = None

    async def run(self) -> None:
        """Take records in until cancelled."""
        failures = 0
        try:
            while True:
                try:
                    await self._step()
                except self._faults as error:
                    failures += 1
                    self._note(problem_of(error))
                    await self._disconnect()
                    await asyncio.sleep(self._backoff.compute(failures))
                else:
                    failures = 0
                    self._note(None)
        finally:
            await self._disconnect()

    async def close(self) -> None:
        """Let another ledger take the stream over at once. Call it after `run` has ended."""
        try:
            redis = await self._connected()
            if await redis.get(self._keys.ledger) == self._identity:
                await redis.delete(self._keys.ledger)
        except STREAM_FAULTS as error:
            logger.info("the stream could not be let go of, which its lease of %d s will do: %s", LEASE_S, error)
        finally:
            await self._disconnect()

    def condition(self) -> str | None:
        """Return one line that says what is wrong with the way of records, or None."""
        if self.state.problem is None:
            return None
        away_s = self._clock() - self.state.since_s
        return f"nothing was taken from the usage stream for {away_s:.0f} s: {self.state.problem}"

    async def _step(self) -> None:
        redis = await self._connected()
        await self._hold(redis)
        answer: Any = await redis.xread({self._keys.stream: "0-0"}, count=READ_ENTRIES, block=self._block_ms)
        entries: list[tuple[bytes, dict[bytes, bytes]]] = answer[0][1] if answer else []
        deliveries: list[Delivery] = []
        for entry, fields in entries:
            try:
                deliveries.append(decode_delivery(fields))
            except MalformedEntryError as error:
                self.state.malformed += 1
                logger.warning("entry %s of the usage stream is none of ours, it is dropped: %s", entry.decode(), error)
        intake = await self._take(deliveries)
        self._count(deliveries, intake)
        if entries:
            await self._acknowledge(redis, [entry for entry, _ in entries], intake)

    async def _hold(self, redis: Redis) -> None:
        """Say that this ledger reads the stream.

        Raises:
            OtherLedgerError: another one does.
        """
        pipe = redis.pipeline(transaction=True)
        pipe.get(self._keys.ledger)
        pipe.xlen(self._keys.stream)
        holder, self.state.entries = await pipe.execute()
        if holder is None:
            with contextlib.suppress(OutOfMemoryError):  # taking entries out is what makes room
                await redis.set(self._keys.ledger, self._identity, nx=True, ex=LEASE_S)
        elif holder == self._identity:
            await redis.expire(self._keys.ledger, LEASE_S)
        else:
            raise OtherLedgerError(
                f"ledger {holder.decode(errors='replace')} reads this stream and we are {self._identity.decode()}: "
                f"run one ledger for it, or give each platform a stream name of its own; a ledger that has gone is "
                f"replaced after {LEASE_S} s"
            )

    async def _acknowledge(self, redis: Redis, entries: Sequence[bytes], intake: Intake) -> None:
        words = {
            self._keys.acknowledged(segment): encode_acknowledgement(acknowledged)
            for segment, acknowledged in intake.acknowledged.items()
        }
        # Together: a shipper that misses its entry must find the word of what became of it.
        pipe = redis.pipeline(transaction=True)
        for key, word in words.items():
            pipe.set(key, word, ex=ACKNOWLEDGED_S)
        pipe.xdel(self._keys.stream, *entries)
        try:
            await pipe.execute()
        except (OutOfMemoryError, ExecAbortError):
            # A full Redis takes no word of ours, but lets go of what is committed. A shipper that misses the word sends
            # again, and is told then.
            await redis.xdel(self._keys.stream, *entries)
            with contextlib.suppress(OutOfMemoryError):
                for key, word in words.items():
                    await redis.set(key, word, ex=ACKNOWLEDGED_S)

    def _count(self, deliveries: Sequence[Delivery], intake: Intake) -> None:
        state = self.state
        state.read_s = self._clock()
        state.deliveries += len(deliveries)
        state.bytes += sum(len(delivery.data) for delivery in deliveries)
        state.records += intake.records
        state.repeated += intake.repeated
        state.gaps += intake.gaps

    def _note(self, problem: str | None) -> None:
        if problem != self.state.problem:
            if problem is not None:
                logger.warning("nothing can be taken from the usage stream: %s", problem)
            else:
                logger.info("taking records from the usage stream")
            if problem is None or self.state.problem is None:
                self.state.since_s = self._clock()
        self.state.problem = problem

    async def _connected(self) -> Redis:
        if self._redis is None:
            self._redis = connect(self._where, self._options, client_name="penstock-ledger")
        return self._redis

    async def _disconnect(self) -> None:
        redis, self._redis = self._redis, None
        if redis is not None:
            try:
                await redis.aclose()
            except STREAM_FAULTS as error:
                logger.debug("closing the connection: %s", problem_of(error))
