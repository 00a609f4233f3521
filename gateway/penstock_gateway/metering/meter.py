"""The meter: one usage record per request that reached a replica, on disk before the client has its last byte."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from penstock.cost.records import InFlightMark, Outcome, UsageRecord
from penstock.routing.load import LATENCY_BUCKETS_S, ModelLoad
from penstock_gateway.clock import Clock
from penstock_gateway.metering.access import AccessEntry
from penstock_gateway.metering.usage import Usage

if TYPE_CHECKING:
    from penstock_gateway.discovery.live import LiveReplica
    from penstock_gateway.relay.request import Peek, Request
    from penstock_gateway.tenants.directory import Tenant

logger = logging.getLogger(__name__)


class RecordSink(Protocol):
    """Where records go: `penstock.cost.spool.SpoolWriter`, or a list in a test."""

    def append(self, record: UsageRecord | InFlightMark) -> None:
        """Keep a record.

        Raises:
            OSError: it could not be kept.
        """


class Metered(Protocol):
    """What the meter reads of a request that ended: `relay.exchange.Exchange`."""

    request: Request
    tenant: Tenant
    peeked: Peek
    reached: LiveReplica | None
    """The replica it was last sent to."""
    sent_s: float
    first_token_s: float | None


class Meter:
    """Settles requests. A disk that takes no record stops no request: the loss is counted and logged once.

    Args:
        sink: Takes the records.
        clock: Stamps them.
        log_access: Takes one entry per request; None leaves the access log out.
    """

    __slots__ = ("_clock", "_failing", "_log_access", "_sink", "lost", "written")

    def __init__(
        self, sink: RecordSink, clock: Clock, *, log_access: Callable[[AccessEntry], None] | None = None
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._log_access = log_access
        self._failing = False
        self.written = 0
        self.lost = 0

    def settle(self, ended: Metered, outcome: Outcome, usage: Usage | None, *, seen_tokens: int, status: int) -> None:
        """Account for a request: its tenant's limits, its record, the counters of its model and variant, the log.

        Args:
            ended: The request.
            outcome: What it came to.
            usage: The engine's count; None when it sent none.
            seen_tokens: Completion tokens that went by, for want of that count.
            status: HTTP status that the client has; 499 when it left.
        """
        now_s = time.monotonic()
        if usage is None:
            prompt, cached, completion = 0, 0, seen_tokens
        else:
            prompt, cached, completion = usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens or 0
        tenant, replica, first_s = ended.tenant, ended.reached, ended.first_token_s
        tenant.limits.settle(prompt + completion)
        if replica is not None:
            offset_s = self._clock.offset_s
            compiled, load = replica.replica, replica.load
            record = UsageRecord(
                id=ended.request.id,
                tenant=tenant.name,
                route=ended.peeked.model,
                model=compiled.model,
                variant=compiled.variant,
                replica=compiled.id,
                start_s=ended.sent_s + offset_s,
                first_token_s=None if first_s is None else first_s + offset_s,
                end_s=now_s + offset_s,
                prompt_tokens=prompt,
                cached_tokens=cached,
                completion_tokens=completion,
                outcome=outcome,
                partial=usage is None and not 400 <= status < 499,
            )
            if self._keep(record):
                self.written += 1
            else:
                self.lost += 1
            _count(load, record)
            if first_s is not None:
                _observe(load, first_s - ended.request.received_s, now_s - first_s, completion)
        if self._log_access is not None:
            self._log_access(self._entry(ended, outcome, status, (prompt, completion), now_s))

    def mark(self, mark: InFlightMark) -> None:
        """Tell the ledger what is still under way. Records that a full disk lost do not come any more."""
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

    def _entry(
        self, ended: Metered, outcome: Outcome, status: int, tokens: tuple[int, int], now_s: float
    ) -> AccessEntry:
        request, first_s = ended.request, ended.first_token_s
        prompt, completion = tokens
        return AccessEntry(
            id=request.id,
            client_request_id=request.client_request_id.decode() or None,
            at_s=self._clock.unix_s(request.received_s),
            tenant=ended.tenant.name,
            model=ended.peeked.model,
            replica=None if ended.reached is None else ended.reached.id,
            status=status,
            outcome=outcome.value,
            prompt_tokens=prompt,
            completion_tokens=completion,
            ttft_ms=None if first_s is None else round((first_s - request.received_s) * 1000, 3),
            duration_ms=round((now_s - request.received_s) * 1000, 3),
        )


def _count(load: ModelLoad, record: UsageRecord) -> None:
    load.prompt_tokens += record.prompt_tokens
    load.cached_tokens += record.cached_tokens
    load.completion_tokens += record.completion_tokens
    if record.outcome is Outcome.COMPLETE:
        load.completed += 1
    elif record.outcome is Outcome.CANCELLED:
        load.cancelled += 1
    else:
        load.failed += 1


def _observe(load: ModelLoad, first_s: float, rest_s: float, tokens: int) -> None:
    """Count a stream's time to first token, and its mean time per token after that one."""
    load.ttft_s_sum += first_s
    load.ttft_buckets[bisect_left(LATENCY_BUCKETS_S, first_s)] += 1
    if tokens > 1:
        per_token_s = rest_s / (tokens - 1)
        load.tpot_s_sum += per_token_s
        load.tpot_buckets[bisect_left(LATENCY_BUCKETS_S, per_token_s)] += 1
