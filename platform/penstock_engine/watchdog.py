"""Ends a replica whose engine died or hangs, so that clients are refused and go elsewhere instead of waiting.

Ray Serve learns of a failed health check within seconds, but then drains the replica: it goes on to answer with
errors. A process that is gone refuses connections at once, and Serve replaces it without a drain.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

logger = logging.getLogger("ray.serve")

LOOK_EVERY_S = 0.25
PING_EVERY_S = 1.0


class Watchdog:
    """Watches one engine until it is dead or hangs.

    Args:
        is_dead: Tells whether the engine is known to be dead. Cheap, never blocks.
        ping: A round trip through the engine's own loop. Any answer is a sign of life, an exception included; a dying
            engine may never answer, so it is not awaited but looked at.
        hang_after_s: How long a ping may stay unanswered. Above the longest step of the engine.
        clock: Monotonic seconds.
        sleep: Waits for seconds.
    """

    def __init__(
        self,
        *,
        is_dead: Callable[[], bool],
        ping: Callable[[], Awaitable[object]],
        hang_after_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._is_dead = is_dead
        self._ping = ping
        self._hang_after_s = hang_after_s
        self._clock = clock
        self._sleep = sleep

    async def watch(self) -> str:
        """Return, in words, what is wrong with the engine, as soon as something is."""
        asked_s = self._clock()
        ping = asyncio.ensure_future(self._ping())
        try:
            while not self._is_dead():
                waited_s = self._clock() - asked_s
                if not ping.done():
                    if waited_s > self._hang_after_s:
                        return f"the engine has not answered for {waited_s:.0f} s"
                elif waited_s >= PING_EVERY_S:
                    _discard(ping)
                    asked_s = self._clock()
                    ping = asyncio.ensure_future(self._ping())
                await self._sleep(LOOK_EVERY_S)
            return "the engine is dead"
        finally:
            if ping.done():
                _discard(ping)
            ping.cancel()


def _discard(ping: asyncio.Future[object]) -> None:
    if not ping.cancelled() and (error := ping.exception()) is not None:
        logger.warning("the engine answered a ping with %s", type(error).__name__)
