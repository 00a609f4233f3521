"""What the leader promises in its spool, so that the ledger may settle and no replica stays open for ever."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Final

from penstock.cost.records import InFlightMark, ReplicaCensus, SpoolLine
from penstock.cost.spool import SpoolWriter

_log = logging.getLogger(__name__)

MARK_PERIOD_S: Final = 1.0
CENSUS_PERIOD_S: Final = 30.0
"""How long at most the books go on paying for a replica that ended while nobody looked."""


def emitter(spool: SpoolWriter) -> Callable[[SpoolLine], None]:
    """Return what writes records into a spool, and stops no controller when the disk takes none."""

    def emit(record: SpoolLine) -> None:
        try:
            spool.append(record)
        except OSError as error:
            _log.error("a record of money is lost, the spool cannot be written: %s: %s", error, record)

    return emit


class Promises:
    """Writes, while this process leads, a mark each second and a census every 30 s.

    The mark says that every replica event up to its time is in the spool above it: the ledger settles nothing beyond
    it, so that a slow operator makes no busy second idle. The census names every replica there is: the ledger ends the
    others.

    Args:
        spool: Where replica events go too.
        is_leader: Whether this process leads. Who does not lead must promise nothing.
        present: Returns every replica of every namespace; None while some cluster has not been looked at, since a
            replica that is left out is ended for good.
        clock: Unix seconds.
    """

    def __init__(
        self,
        spool: SpoolWriter,
        *,
        is_leader: Callable[[], bool],
        present: Callable[[], Collection[str] | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._spool = spool
        self._is_leader = is_leader
        self._present = present
        self._clock = clock
        self._counted_s = float("-inf")

    async def run(self) -> None:
        """Promise until cancelled."""
        while True:
            self.promise()
            await asyncio.sleep(MARK_PERIOD_S)

    def promise(self) -> None:
        """Write what holds now; nothing when another process leads."""
        if not self._is_leader():
            return
        now_s = self._clock()
        try:
            if now_s >= self._counted_s + CENSUS_PERIOD_S and (replicas := self._present()) is not None:
                self._spool.append(ReplicaCensus(at_s=now_s, replicas=tuple(sorted(replicas))))
                self._counted_s = now_s
            self._spool.append(InFlightMark(writer=self._spool.identity, at_s=now_s, oldest_start_s={}))
        except OSError as error:
            _log.warning("nothing can be promised to the ledger: %s", error)
