"""The newest cost report of the ledger, asked for now and then, for what Models show of their cost."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import httpx2
import msgspec

from penstock.cost.report import CostReport

_PERIOD_S: Final = 15.0
_TIMEOUT_S: Final = 10.0
_WINDOW: Final = "1h"
_log = logging.getLogger(__name__)


class Reports:
    """Asks for the report of the last hour while `run` runs; what came last stays while the ledger is away."""

    def __init__(self, ledger_url: str, *, period_s: float = _PERIOD_S) -> None:
        """Make a reader that has not asked yet.

        Args:
            ledger_url: where the ledger answers: `http://penstock-ledger:8090`.
            period_s: from one question to the next, in seconds.
        """
        self.newest: CostReport | None = None
        """None before the first answer."""
        self._url = f"{ledger_url.rstrip('/')}/report"
        self._period_s = period_s
        self._answers = True

    async def run(self) -> None:
        """Ask until cancelled."""
        # trust_env off: the ledger is inside the cluster, whatever proxy the environment names.
        async with httpx2.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as http:
            while True:
                await self._ask(http)
                await asyncio.sleep(self._period_s)

    async def _ask(self, http: httpx2.AsyncClient) -> None:
        try:
            answer = await http.get(self._url, params={"since": _WINDOW})
            answer.raise_for_status()
            self.newest = msgspec.json.decode(answer.content, type=CostReport)
        except (httpx2.HTTPError, msgspec.DecodeError) as error:
            if self._answers:
                _log.warning("no cost report from %s: %s %s", self._url, type(error).__name__, error)
            self._answers = False
        else:
            self._answers = True
