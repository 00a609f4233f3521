"""Leader election on a Lease, with a fence: who cannot renew stops writing before anybody else may start.

Nobody's clock is compared with anybody else's. A candidate notes when it first saw the Lease as it is now, on its own
monotonic clock, and takes it over when it has not changed for its whole duration. The leader counts its own validity
from before the renewing call was sent, and for a shorter time (`renew_deadline_s`), so that its last write has ended
when the first candidate may act. What no client can fence is a process frozen between this check and the socket: the
margin of duration over deadline covers calls that are on their way, and resource versions cover the rest.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from penstock_kube.client import KubeClient
from penstock_kube.clock import Clock, Rng, SystemClock, micro_timestamp, within
from penstock_kube.errors import KubeError, NotFoundError, NotLeaderError
from penstock_kube.resources import LEASES

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Name and times of an election."""

    namespace: str
    name: str
    identity: str
    """Name of this candidate, unlike any other's, those of earlier processes included."""
    duration_s: int = 15
    """How long candidates wait for a leader that shows no life, in seconds."""
    renew_deadline_s: float = 10.0
    """How long a leader that cannot renew may go on writing, in seconds."""
    retry_s: float = 2.0
    """Time between tries to take or renew, in seconds."""

    def __post_init__(self) -> None:
        if not self.retry_s * 1.2 < self.renew_deadline_s < self.duration_s:
            raise ValueError(
                f"retry_s {self.retry_s:g} x 1.2 < renew_deadline_s {self.renew_deadline_s:g} < duration_s "
                f"{self.duration_s} does not hold: a leader must have time to renew, and stop before others start"
            )


class LeaderElector:
    """Takes part in an election. It is also the `Fence` for the leader's client."""

    def __init__(
        self, client: KubeClient, settings: LeaseSettings, *, clock: Clock | None = None, rng: Rng = random.random
    ) -> None:
        """Make a candidate.

        Args:
            client: for the Lease itself; not fenced by this elector.
            settings: names and times.
            clock: time and waiting.
            rng: spreads the tries of several candidates.
        """
        self._client = client
        self._settings = settings
        self._clock = clock or SystemClock()
        self._rng = rng
        self._lease: dict[str, Any] | None = None
        self._seen = ""
        self._observed_s = 0.0
        self._valid_until_s = float("-inf")

    @property
    def is_leader(self) -> bool:
        """Whether this process may write now."""
        return self._clock.monotonic() < self._valid_until_s

    @property
    def holder(self) -> str:
        """Who leads, as far as we know; empty when nobody does."""
        return str(((self._lease or {}).get("spec") or {}).get("holderIdentity") or "")

    def remaining_s(self) -> float:
        """Return for how many seconds this process may still write without a renewal.

        Raises:
            NotLeaderError: it may not.
        """
        remaining_s = self._valid_until_s - self._clock.monotonic()
        if remaining_s <= 0:
            raise NotLeaderError(
                f"{self._settings.identity} does not hold the lease {self._settings.name}: not written"
            )
        return remaining_s

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for leadership, lead, and give it back.

        When `lead` returns or raises, or this task is cancelled, the Lease is released, so that another candidate
        leads within one retry. While `lead` winds down, the Lease is kept.

        Args:
            lead: the leader's work; cancelled when leadership is lost.

        Raises:
            NotLeaderError: leadership was lost. The process should end: what it knows may be stale.
        """
        while not await self._try():
            await self._wait()
        _log.info("%s leads (lease %s)", self._settings.identity, self._settings.name)
        leading = asyncio.ensure_future(lead())
        renewing = asyncio.create_task(self._renew())
        try:
            await asyncio.wait((leading, renewing), return_when=asyncio.FIRST_COMPLETED)
            if renewing.done():
                renewing.result()
            leading.result()
        finally:
            await _end(leading)
            await _end(renewing)
            await self._release()

    async def _wait(self) -> None:
        await self._clock.sleep(self._settings.retry_s * (1 + 0.2 * self._rng()))

    async def _renew(self) -> None:
        """Renew until the validity runs out.

        Raises:
            NotLeaderError: it ran out.
        """
        while True:
            await self._wait()
            await self._try()
            if not self.is_leader:
                raise NotLeaderError(f"{self._settings.identity} lost the lease {self._settings.name}")

    async def _try(self) -> bool:
        """Try once to take or renew the Lease; return whether it is ours. Trouble on the way only means no."""
        limit_s = self._settings.renew_deadline_s / 2  # one stalled connection must leave time for another try
        if self.is_leader:
            limit_s = min(limit_s, self.remaining_s())
        try:
            return await within(self._clock, limit_s, self._take())
        except (KubeError, TimeoutError) as error:
            _log.warning("lease %s: %s", self._settings.name, error)
            self._lease = None  # whatever became of the call: read before the next try
            return False

    async def _take(self) -> bool:
        ours = self._settings.identity
        # The leader knows its own Lease; the resource version tells if anybody else wrote it.
        if self._lease is None or self.holder != ours:
            await self._observe()
        spec = (self._lease or {}).get("spec") or {}
        asked_s = self._clock.monotonic()
        if self.holder not in ("", ours) and asked_s < self._observed_s + float(spec.get("leaseDurationSeconds") or 0):
            self._valid_until_s = float("-inf")
            return False
        now = micro_timestamp(self._clock.now())
        changed = self.holder != ours
        wanted = {
            "holderIdentity": ours,
            "leaseDurationSeconds": self._settings.duration_s,
            "acquireTime": now if changed else spec.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (1 if changed and self._lease else 0),
        }
        await self._write(wanted)
        self._valid_until_s = asked_s + self._settings.renew_deadline_s
        return True

    async def _observe(self) -> None:
        """Read the Lease, and note when it last changed."""
        try:
            lease = await self._client.get(LEASES, self._settings.namespace, self._settings.name)
        except NotFoundError:
            self._lease = None
            return
        self._note(lease)

    def _note(self, lease: dict[str, Any]) -> None:
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen:
            self._seen, self._observed_s = version, self._clock.monotonic()
        holder = str((lease.get("spec") or {}).get("holderIdentity") or "")
        if holder != self.holder:
            _log.info("lease %s is held by %r", self._settings.name, holder)
        self._lease = lease

    async def _write(self, spec: dict[str, Any]) -> None:
        metadata = {"namespace": self._settings.namespace, "name": self._settings.name}
        if self._lease is None:
            self._note(await self._client.create(LEASES, {"metadata": metadata, "spec": spec}))
        else:
            self._note(await self._client.replace(LEASES, {**self._lease, "spec": spec}))

    async def _release(self) -> None:
        """Give the Lease back, if it is still ours; when that fails, others wait for its duration."""
        if not self.is_leader or self._lease is None:
            return
        limit_s, self._valid_until_s = self.remaining_s(), float("-inf")
        spec = {**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        spec["renewTime"] = micro_timestamp(self._clock.now())
        try:
            await within(self._clock, limit_s, self._write(spec))
        except (KubeError, TimeoutError) as error:
            _log.warning("lease %s is not released: %s", self._settings.name, error)
        else:
            _log.info("lease %s released", self._settings.name)


async def _end(task: asyncio.Future[None]) -> None:
    """Cancel a task and wait for its end; what it raises while it winds down is logged."""
    before = task.done()
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled() and (error := task.exception()) is not None and not before:
        _log.warning("ended with %s: %s", type(error).__name__, error)
