"""Ejection: a replica that failed gets nothing new until it has answered a probe, asked ever more rarely."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from penstock_gateway.discovery.live import LiveReplica
from penstock_gateway.load.fetch import FetchError, fetch
from penstock_gateway.settings import Retries

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_S: Final = 2.0
DEFAULT_READINESS_PATH: Final = "/health"
"""For engines without an adapter; all known servers have it."""


def next_backoff_s(current_s: float, retries: Retries) -> float:
    """Return the back-off after one of `current_s`: the first, then doubling up to the longest."""
    return min(max(2 * current_s, retries.eject_min_s), retries.eject_max_s)


class Ejections:
    """Ejects replicas and probes them until they are back or gone (`relay.context.Ejector`).

    The back-off is forgotten when a request succeeds at the replica, not when a probe does: an engine whose health page
    answers while its requests fail is asked more and more rarely.
    """

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._probes: set[asyncio.Task[None]] = set()

    def eject(self, replica: LiveReplica) -> None:
        """Take the replica out of the pick, unless it is out already."""
        if replica.ejected or replica.retired:
            return
        replica.ejected = True
        replica.ejections += 1
        replica.model.affinity.index.forget(replica.id)  # an engine that failed has most likely lost its cache
        logger.warning("replica %s of model %s is ejected", replica.id, replica.replica.model)
        task = asyncio.get_running_loop().create_task(self._bring_back(replica), name=f"probe {replica.id}")
        self._probes.add(task)
        task.add_done_callback(self._probes.discard)

    async def close(self) -> None:
        """Stop probing."""
        probes = list(self._probes)
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)

    async def _bring_back(self, replica: LiveReplica) -> None:
        engine = replica.model.engine
        path = DEFAULT_READINESS_PATH if engine is None else engine.readiness_path
        while not replica.retired:
            replica.backoff_s = next_backoff_s(replica.backoff_s, self._retries)
            await asyncio.sleep(replica.backoff_s)
            try:
                status, _ = await fetch(replica, path, timeout_s=PROBE_TIMEOUT_S)
            except FetchError:
                continue
            if status == 200:
                replica.ejected = False
                logger.info("replica %s of model %s is back", replica.id, replica.replica.model)
                return
