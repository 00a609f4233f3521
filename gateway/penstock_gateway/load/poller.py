"""Reads every replica's metrics page in turn, so that the pick knows KV usage and queues."""

from __future__ import annotations

import asyncio
import logging

from penstock.routing.prefix import BYTES_PER_TOKEN
from penstock_gateway.discovery.fleet import Fleet
from penstock_gateway.discovery.live import LiveReplica
from penstock_gateway.load.fetch import FetchError, fetch

logger = logging.getLogger(__name__)


class LoadPoller:
    """Polls all replicas at once, once per period; a replica that does not answer keeps its last reading.

    Args:
        fleet: Whose replicas to poll.
        period_s: Time between polls, and the most that one may take.
    """

    def __init__(self, fleet: Fleet, *, period_s: float) -> None:
        self._fleet = fleet
        self._period_s = period_s
        self._unreadable: set[str] = set()

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self.poll()
            await asyncio.sleep(self._period_s)

    async def poll(self) -> None:
        """Poll each replica once."""
        await asyncio.gather(*(self._read(replica) for replica in self._fleet.replicas.values()))

    async def _read(self, replica: LiveReplica) -> None:
        engine = replica.model.engine
        replica.reported = False
        if replica.ejected or engine is None:
            return
        in_flight = replica.in_flight
        try:
            status, page = await fetch(replica, engine.metrics_path, timeout_s=self._period_s)
        except FetchError:
            return
        if status != 200:
            return
        try:
            load = engine.parse_load(page)
        except ValueError as error:
            if replica.id not in self._unreadable:
                self._unreadable.add(replica.id)
                logger.warning("the metrics of replica %s cannot be read: %s", replica.id, error)
            return
        replica.reported = True
        replica.kv_usage = load.kv_usage
        replica.running = load.running
        replica.waiting = load.waiting
        replica.in_flight_at_report = in_flight
        # What came and went while it was asked is ours, not others'.
        replica.others = max(0, load.running + load.waiting - max(in_flight, replica.in_flight))
        if load.kv_capacity_tokens is not None:
            replica.model.affinity.index.resize(replica.id, load.kv_capacity_tokens * BYTES_PER_TOKEN)
