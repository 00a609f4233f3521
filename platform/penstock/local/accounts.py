"""The money of a running platform: the spool taken into the ledger, and the newest reports, beside the loop."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import msgspec

from penstock.cost.ledger import Ledger
from penstock.cost.records import ReplicaEvent, ReplicaEventKind
from penstock.cost.report import CostReport, build_report
from penstock.cost.schema import LedgerVersionError
from penstock.cost.spool import SpoolWriter
from penstock.cost.timeline import ReplicaTimeline
from penstock.errors import UserError
from penstock.local.state import StateDirectory

logger = logging.getLogger(__name__)

_PERIOD_S = 2.0
LEDGER_FAULTS = (sqlite3.Error, LedgerVersionError, OSError)
"""What reading or writing a ledger and its spool may end in."""


class Accounts:
    """The ledger's only writer. SQLite waits for the disk, so it has a thread of its own."""

    def __init__(self, state: StateDirectory, *, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._ledger: Ledger | None = None
        self.reports: tuple[CostReport, CostReport] | None = None
        """The newest (settled, current) reports; None before the first."""

    def check(self) -> None:
        """Check that the ledger can be written, before anything is started that costs money.

        Raises:
            UserError: it cannot.
        """
        try:
            Ledger(self._state.ledger).close()
        except LEDGER_FAULTS as error:
            raise UserError(
                f"the ledger {self._state.ledger} cannot be used: {error}; move it away to begin a new one"
            ) from error

    async def run(self, stop: asyncio.Event) -> None:
        """Take the spool in every two seconds until `stop`, and once more then."""
        while not stop.is_set():
            await self.refresh()
            try:
                await asyncio.wait_for(stop.wait(), _PERIOD_S)
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """Take in what stands in the spool and make the reports anew."""
        try:
            self.reports = await asyncio.get_running_loop().run_in_executor(self._thread, self._refresh)
        except LEDGER_FAULTS:
            # Nothing is lost by waiting: the spool keeps what the ledger has not committed.
            logger.exception("the ledger %s cannot be written; the spool keeps its records", self._state.ledger)

    async def close(self) -> None:
        """Take in the rest and close the ledger."""
        await self.refresh()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _refresh(self) -> tuple[CostReport, CostReport]:
        if self._ledger is None:
            self._ledger = Ledger(self._state.ledger)
        now_s = self._clock()
        self._ledger.ingest(self._state.spool)
        self._ledger.settle(now_s)
        books = self._ledger.books()
        return build_report(books, now_s=now_s, settled_only=True), build_report(books, now_s=now_s)

    def _close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()


def close_open_replicas(state: StateDirectory, now_s: float, *, were_alive: bool) -> list[str]:
    """Write the ends that a killed operator could not: of every replica that the books show open.

    Args:
        state: Where spool and ledger are.
        now_s: When its processes were found gone, or were ended by us (Unix seconds).
        were_alive: Whether they were ended by us: if not, the meter's last sight of each is the best that is known.

    Returns:
        The replicas closed.
    """
    with Ledger(state.ledger) as ledger:
        ledger.ingest(state.spool)
        books = ledger.books()
    closed = []
    with SpoolWriter(state.spool, "operator") as spool:
        for replica, timeline in books.timelines.items():
            if timeline.end_ns is not None:
                continue
            reading = books.meters.get(replica)
            end_s = now_s if were_alive or reading is None else reading.seen_s
            spool.append(_end_event(timeline, end_s))
            if reading is not None:
                spool.append(msgspec.structs.replace(reading, seen_s=end_s, ended=True))
            closed.append(replica)
    return closed


def _end_event(timeline: ReplicaTimeline, end_s: float) -> ReplicaEvent:
    """Return an end for a replica of which only the ledger knows: what it was is in its first event."""
    return ReplicaEvent(
        replica=timeline.replica,
        kind=ReplicaEventKind.END,
        at_s=end_s,
        model=timeline.model,
        variant=timeline.variant,
        accelerator_class="",
        accelerators=0,
        purchase="OnDemand",
        usd_per_hour=str(Decimal(timeline.price_picousd_per_hour) / 10**12),
        cause="OperatorDied",
    )
