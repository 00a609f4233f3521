"""The meter: one usage record per request that reached a replica, on disk before the client has its last byte."""

from __future__ import annotations

import logging
from bisect import bisect_left
from typing import Protocol

from penstock.cost.records import InFlightMark, Outcome, UsageRecord
from penstock.routing.load import LATENCY_BUCKETS_S, ModelLoad

logger = logging.getLogger(__name__)


class RecordSink(Protocol):
    """Where records go: `penstock.cost.spool.SpoolWriter`, or a list in a test."""

    def append(self, record: UsageRecord | InFlightMark) -> None:
        """Keep a record.

        Raises:
            OSError: it could not be kept.
        """


class Meter:
    """Writes records and counts. A disk that takes no record stops no request: the loss is counted and logged once."""

    __slots__ = ("_failing", "_sink", "lost", "written")

    def __init__(self, sink: RecordSink) -> None:
        self._sink = sink
        self._failing = False
        self.written = 0
        self.lost = 0

    def record(self, record: UsageRecord, load: ModelLoad) -> None:
        """Keep a request's record and add it to the counters of its model and variant."""
        if self._keep(record):
            self.written += 1
        else:
            self.lost += 1
        load.prompt_tokens += record.prompt_tokens
        load.cached_tokens += record.cached_tokens
        load.completion_tokens += record.completion_tokens
        if record.outcome is Outcome.COMPLETE:
            load.completed += 1
        elif record.outcome is Outcome.CANCELLED:
            load.cancelled += 1
        else:
            load.failed += 1

    def mark(self, mark: InFlightMark) -> None:
        """Tell the ledger what is still under way. No promise is made while a record is missing."""
        if not self._failing:
            self._keep(mark)

    def _keep(self, line: UsageRecord | InFlightMark) -> bool:
        try:
            self._sink.append(line)
        except OSError as error:
            if not self._failing:
                self._failing = True
                logger.error("usage records are being lost, the spool cannot be written: %s", error)  # noqa: TRY400 - expected
            return False
        if self._failing:
            self._failing = False
            logger.warning("the spool can be written again; %d usage records were lost", self.lost)
        return True


def observe_first_token(load: ModelLoad, seconds: float) -> None:
    """Count a stream's time to first token."""
    load.ttft_s_sum += seconds
    load.ttft_buckets[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1


def observe_token_time(load: ModelLoad, seconds: float) -> None:
    """Count a stream's mean time per token after the first."""
    load.tpot_s_sum += seconds
    load.tpot_buckets[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
