"""Keeps `status.json` current: what the loop knows, with token rates and engine pids that only a reader of it wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from penstock.control.brain import ModelState
from penstock.control.rates import TokenRates
from penstock.control.replicas import Life
from penstock.control.status import PlatformStatus
from penstock.control.summary import model_status, replica_prices, replica_status
from penstock.engines.base import EngineLoad
from penstock.local import procfs
from penstock.local.accounts import Accounts
from penstock.local.journal import write_status

_ENGINE_MARK = "EngineCore"
"""In the title of vLLM's core process."""


class Teller:
    """Writes the status after every tick."""

    def __init__(self, file: Path, base: PlatformStatus, accounts: Accounts) -> None:
        self._file = file
        self._base = base
        self._accounts = accounts
        self._rates = TokenRates()
        self._readings: dict[str, EngineLoad] = {}
        self._engines: dict[str, int] = {}

    def take(self, replica: str, reading: EngineLoad, at_s: float) -> None:
        """Take one reading of an engine."""
        self._rates.take(replica, reading, at_s)
        self._readings[replica] = reading

    def forget(self, replica: str) -> None:
        """Forget a replica that is gone."""
        self._rates.forget(replica)
        self._readings.pop(replica, None)
        self._engines.pop(replica, None)

    def tell(
        self,
        models: Mapping[str, ModelState],
        lives: Mapping[str, Life],
        leaving: frozenset[str],
        *,
        now_s: float,
        message: str,
        snapshot_version: int,
    ) -> PlatformStatus:
        """Write `status.json` and return what is in it."""
        self._find_engines(lives.values())
        current = self._accounts.reports[1] if self._accounts.reports else None
        told = []
        for name, state in models.items():
            mine = sorted((life for life in lives.values() if life.model == name), key=lambda life: life.started_s)
            replicas = [
                replica_status(
                    life, self._readings.get(life.id), self._engines.get(life.id), leaving=life.id in leaving
                )
                for life in mine
            ]
            told.append(
                model_status(
                    name,
                    state,
                    replicas,
                    rates=self._rates.per_second([life.id for life in mine]),
                    usd_per_hour=replica_prices(lives, name),
                    report=current,
                )
            )
        status = msgspec.structs.replace(
            self._base,
            at_s=now_s,
            phase="Running",
            message=message,
            models=tuple(told),
            snapshot_version=snapshot_version,
        )
        write_status(self._file, status)
        return status

    def _find_engines(self, lives: Iterable[Life]) -> None:
        unknown = [life for life in lives if life.pid is not None and not self._is_known(life.id)]
        if not unknown:
            return
        table = procfs.parents()
        for life in unknown:
            below = procfs.descendants(life.pid or 0, table)
            cores = [pid for pid in below if _ENGINE_MARK in procfs.title(pid)]
            if cores:
                self._engines[life.id] = cores[0]

    def _is_known(self, replica: str) -> bool:
        pid = self._engines.get(replica)
        return pid is not None and procfs.identify(pid) is not None
