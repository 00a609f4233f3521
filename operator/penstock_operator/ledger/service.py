"""The ledger's work: one thread that writes, one that reads for people, and reports made anew as it settles."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from penstock.cost.deliveries import Delivery, Intake
from penstock.cost.ledger import Ledger
from penstock.cost.receipts import RequestReceipt, receipt_of
from penstock.cost.report import CostReport, build_report
from penstock.cost.segments import writer_of
from penstock_operator.ledger.listening import Listening
from penstock_operator.ledger.settings import Settings

logger = logging.getLogger(__name__)

DATABASE_FAULTS: tuple[type[Exception], ...] = (sqlite3.Error, OSError)
"""What using the books may end in: a full or failing disk."""

SEALED_KEPT_S: Final = 30 * 24 * 3600.0
"""How long a segment that was delivered whole is remembered by name: longer than any stream or backup of a Redis."""

_FORGET_PERIOD_S: Final = 3600.0

_T = TypeVar("_T")


@dataclass(slots=True)
class ServiceState:
    """What metrics and people are told. Counters begin with the process."""

    reports: tuple[CostReport, CostReport] | None = None
    """The newest (settled, current) reports; None before the first."""
    writers: int = 0
    """Processes whose marks hold settling back."""
    writers_lost: int = 0
    commit_s: float = 0.0
    """Seconds that the last deliveries took to commit."""
    settle_s: float = 0.0
    """Seconds that the last settling and its reports took."""
    problem: str | None = None
    """Why the books could not be written last; None when they could."""


class LedgerService:
    """The books of one ledger process. `open` it, then run `settling` as a task beside the consumer.

    Args:
        settings: As read at the process's start.
        clock: Unix seconds.
        monotonic: Seconds that never go back.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = ServiceState()
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._writing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reports")
        self._listening = Listening(
            lost_after_s=settings.writer_lost_after_s, grace_s=settings.settle_grace_s, now_s=monotonic()
        )
        self._forgot_s = float("-inf")
        self._ledger: Ledger | None = None

    async def open(self) -> str:
        """Open the books; return the ledger's identity.

        Raises:
            LedgerVersionError: a newer Penstock wrote them.
            sqlite3.Error: the file is no ledger, or cannot be written.
            OSError: its folder cannot be made.
        """

        def opened() -> str:
            self._ledger = Ledger(self._settings.database)
            return self._ledger.identity()

        return await self._in(self._writing, opened)

    async def close(self) -> None:
        """Close the books after what is being written."""
        if self._ledger is not None:
            await self._in(self._writing, self._ledger.close)
        self._writing.shutdown()
        self._reading.shutdown()

    async def take(self, deliveries: Sequence[Delivery]) -> Intake:
        """Commit deliveries, and note who was heard.

        Raises:
            sqlite3.Error: the books cannot be written; none of it is in them.
        """
        if deliveries:
            began_s = self._monotonic()
            intake = await self._in(self._writing, lambda: self._books().take(deliveries, self._clock()))
            self.state.commit_s = self._monotonic() - began_s
        else:
            intake = Intake(records=0, repeated=0, gaps=0, acknowledged={})
        writers = {writer_of(delivery.segment) for delivery in deliveries}
        self._listening.heard(writers, self._monotonic(), self._clock())
        return intake

    async def settling(self) -> None:
        """Settle and report every `settle_period_s` until cancelled."""
        while True:
            await self.settle()
            await asyncio.sleep(self._settings.settle_period_s)

    async def settle(self) -> None:
        """Settle what is known for good and make the reports anew."""
        began_s = self._monotonic()
        try:
            self.state.reports = await self._in(self._writing, self._settle)
        except DATABASE_FAULTS as error:
            # Nothing is lost by waiting: what is not settled now is settled later.
            self.state.problem = f"the books {self._settings.database} cannot be written: {error}"
            logger.error("%s", self.state.problem)  # noqa: TRY400 - expected
        else:
            self.state.problem = None
        self.state.settle_s = self._monotonic() - began_s

    async def report(self, since_s: float | None, until_s: float | None) -> CostReport:
        """Return a report of a stretch of time, or of everything when both ends are None.

        Args:
            since_s: From when on (Unix seconds); None: since the ledger began.
            until_s: Up to when; None: now.
        """

        def built() -> CostReport:
            with Ledger(self._settings.database, read_only=True) as ledger:
                # With an end in the past, what was settled after it must be left out: all is attributed anew.
                books = ledger.books(0.0 if since_s is None and until_s is not None else since_s)
                return build_report(books, now_s=self._clock(), since_s=since_s, until_s=until_s)

        return await self._in(self._reading, built)

    async def receipt(self, request: str) -> RequestReceipt | None:
        """Return one request's receipt, or None when its record has not come."""

        def found() -> RequestReceipt | None:
            with Ledger(self._settings.database, read_only=True) as ledger:
                return receipt_of(ledger, request, now_s=self._clock())

        return await self._in(self._reading, found)

    def _settle(self) -> tuple[CostReport, CostReport]:
        ledger, now_s = self._books(), self._clock()
        writers = ledger.writers()
        lost = self._listening.lost(writers)
        if lost:
            logger.error(
                "taken for dead after %.0f s of silence, with what they had not sent: %s",
                self._settings.writer_lost_after_s, ", ".join(lost),
            )  # fmt: skip
            ledger.release(lost)
            self.state.writers_lost += len(lost)
        self.state.writers = len(writers) - len(lost)
        if self._monotonic() >= self._forgot_s + _FORGET_PERIOD_S:
            self._forgot_s = self._monotonic()
            ledger.forget_sealed(now_s - SEALED_KEPT_S)
        heard_until_s = self._listening.settled_until(self._monotonic(), now_s)
        ledger.settle(heard_until_s - self._settings.settle_lag_s)
        books = ledger.books()
        return build_report(books, now_s=now_s, settled_only=True), build_report(books, now_s=now_s)

    def _books(self) -> Ledger:
        if self._ledger is None:
            raise OSError("the books are not open")
        return self._ledger

    async def _in(self, thread: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
