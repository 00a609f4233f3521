"""Events on objects, as `kubectl describe` shows them: repeats are counted in one event, and trouble is dropped.

A reconcile only notes an event; writing happens beside it and never fails it. A repeat of the same reason and message
on the same object raises a count, which is written at most every `interval_s`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

from penstock_kube.client import KubeClient
from penstock_kube.clock import Clock, SystemClock, timestamp
from penstock_kube.errors import KubeError, NotFoundError
from penstock_kube.resources import EVENTS, Object

EventType = Literal["Normal", "Warning"]

_LONGEST_MESSAGE = 1000
_MOST_SERIES = 2000
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Series:
    """Repeats of one event."""

    body: dict[str, Any]
    count: int = 0
    written: int = 0
    written_s: float = float("-inf")
    queued: bool = False


class EventRecorder:
    """Notes events now and writes them from `run`."""

    def __init__(
        self,
        client: KubeClient,
        *,
        component: str,
        instance: str,
        clock: Clock | None = None,
        interval_s: float = 30.0,
        namespace_of_cluster_events: str = "default",
    ) -> None:
        """Make a recorder.

        Args:
            client: writes the events; fence it where only a leader speaks.
            component: who reports, as `kubectl` shows it under From.
            instance: which copy of it.
            clock: time and waiting.
            interval_s: shortest time between two writes of one series, in seconds.
            namespace_of_cluster_events: where events on cluster-scoped objects are kept.
        """
        self._client = client
        self._component = component
        self._instance = instance
        self._clock = clock or SystemClock()
        self._interval_s = interval_s
        self._cluster_namespace = namespace_of_cluster_events
        self._series: OrderedDict[str, _Series] = OrderedDict()
        self._due: asyncio.Queue[str] = asyncio.Queue()
        self.dropped = 0
        """Writes that failed or were never tried, since the program started."""

    def note(self, regarding: Object, kind: EventType, reason: str, message: str) -> None:
        """Note that something happened to an object.

        Args:
            regarding: the object, with `apiVersion` and `kind`.
            kind: `Warning` for what somebody should look at.
            reason: one CamelCase word.
            message: one sentence, without figures that change each time, or nothing ever repeats.
        """
        body = self._body(regarding, kind, reason, message[:_LONGEST_MESSAGE])
        name = body["metadata"]["name"]
        series = self._series.setdefault(name, _Series(body))
        self._series.move_to_end(name)
        series.count += 1
        if not series.queued:
            series.queued = True
            self._due.put_nowait(name)
        while len(self._series) > _MOST_SERIES:
            _, oldest = self._series.popitem(last=False)
            self.dropped += oldest.count - oldest.written

    async def run(self) -> None:
        """Write what is noted, until cancelled."""
        async with asyncio.TaskGroup() as waiting:
            while True:
                name = await self._due.get()
                series = self._series.get(name)
                if series is None:
                    continue
                wait_s = series.written_s + self._interval_s - self._clock.monotonic()
                if wait_s > 0:
                    # Nobody stands in line behind a series that repeats: it comes back when its time is up.
                    waiting.create_task(self._later(name, wait_s))
                    continue
                series.queued = False
                series.written_s = self._clock.monotonic()
                try:
                    await self._write(series)
                except KubeError as error:
                    self.dropped += 1
                    _log.warning("event %s is lost: %s", name, error)

    async def _later(self, name: str, wait_s: float) -> None:
        await self._clock.sleep(wait_s)
        self._due.put_nowait(name)

    async def _write(self, series: _Series) -> None:
        metadata = series.body["metadata"]
        count, now = series.count, timestamp(self._clock.now())
        fresh = {"count": count, "lastTimestamp": now}
        if series.written:
            try:
                await self._client.merge_patch(EVENTS, metadata["namespace"], metadata["name"], fresh)
            except NotFoundError:  # events expire on the server after an hour
                series.written = 0
        if not series.written:
            await self._client.apply(EVENTS, {**series.body, "firstTimestamp": now, **fresh})
        series.written = count

    def _body(self, regarding: Object, kind: EventType, reason: str, message: str) -> dict[str, Any]:
        metadata = regarding["metadata"]
        involved = {
            "apiVersion": regarding["apiVersion"],
            "kind": regarding["kind"],
            "name": metadata["name"],
            "namespace": metadata.get("namespace", ""),
            "uid": metadata.get("uid", ""),
        }
        identity = "\0".join([*involved.values(), kind, reason, message, self._instance])
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        return {
            # A name made from the content: a copy that restarts goes on with the event it had begun.
            "metadata": {
                "name": f"{metadata['name'][:230]}.{digest}",
                "namespace": involved["namespace"] or self._cluster_namespace,
            },
            "involvedObject": {field: value for field, value in involved.items() if value},
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }
