"""Keeps a `Store` equal to a collection on the API server: list once, then watch, for as long as the program runs.

A watch that ends is resumed from the last version seen. Only when that version is too old is the collection listed
again, and compared with what we had, so that nobody misses a deletion. A connection that is silent for too long is
given up: bookmarks come about once a minute, so silence means that nobody is there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Protocol

from penstock_kube.client import KubeClient, Listing
from penstock_kube.clock import Backoff, Clock, Rng, SystemClock
from penstock_kube.errors import GoneError, KubeError
from penstock_kube.resources import Kind, key_of
from penstock_kube.store import Change, IndexFunction, Store, Trim

Handler = Callable[[Change], None]
"""Told of each change right after the store has it; must neither block nor raise."""

_log = logging.getLogger(__name__)


class WatchObserver(Protocol):
    """Counts interruptions."""

    def watch_restarted(self, plural: str, reason: str) -> None:
        """Note that a watch ended: `ended` by the server, `gone`, or the class of an error."""


class Reflector:
    """Mirrors one collection. Run `run` as a task; read `store` from anywhere in the same event loop."""

    def __init__(
        self,
        client: KubeClient,
        kind: Kind,
        *,
        namespace: str = "",
        label_selector: str | None = None,
        field_selector: str | None = None,
        indexes: Mapping[str, IndexFunction] | None = None,
        trim: Trim | None = None,
        backoff: Backoff | None = None,
        clock: Clock | None = None,
        rng: Rng = random.random,
        watch_s: int = 300,
        silence_s: float = 75.0,
        observer: WatchObserver | None = None,
    ) -> None:
        """Make a reflector that has not started.

        Args:
            client: makes the calls.
            kind: what to mirror.
            namespace: empty for all namespaces.
            label_selector: only objects with these labels.
            field_selector: only objects with these fields.
            indexes: functions by index name, for `Store.by_index`.
            trim: takes out of each object what nobody reads, where that is much.
            backoff: waits between failures in a row.
            clock: time and waiting.
            rng: spreads waits and the length of watches, so that not all come back at once.
            watch_s: asks the server to end a watch after one to two times so long, in seconds.
            silence_s: longest time without a byte from the server, in seconds; above the minute between bookmarks.
            observer: told of each interruption.
        """
        self.kind = kind
        self.namespace = namespace
        self.store = Store(indexes, trim)
        self._client = client
        self._selectors = {"label_selector": label_selector, "field_selector": field_selector}
        self._backoff = backoff or Backoff()
        self._clock = clock or SystemClock()
        self._rng = rng
        self._watch_s = watch_s
        self._silence_s = silence_s
        self._observer = observer
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        self._version: str | None = None
        self._failures = 0
        self.last_contact_s: float | None = None
        """When the server last told us something, on the clock's monotonic scale; None before it did."""
        self.trouble: KubeError | None = None
        """What last interrupted the mirror, until the server tells us something again."""

    def add_handler(self, handler: Handler) -> None:
        """Have a function told of each change; objects that are there already are told at once."""
        self._handlers.append(handler)
        for obj in self.store.all():
            handler(Change(None, obj))

    @property
    def has_synced(self) -> bool:
        """Whether the store has held the whole collection at least once."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Wait until the store holds the whole collection."""
        await self._synced.wait()

    async def run(self) -> None:
        """Mirror until cancelled."""
        while True:
            asked_s = 0.0
            try:
                if self._version is None:
                    await self._list()
                await self._watch()
                reason = "ended"
            except GoneError as error:
                _log.info("%s: listing again, since %s", self.kind.plural, error.message)
                reason, self._version = "gone", None
                self._failures += 1
            except KubeError as error:
                reason, asked_s = type(error).__name__, error.retry_after_s or 0.0
                self._failures += 1
                self.trouble = error
                _log.warning("%s: watch interrupted (%d in a row): %s", self.kind.plural, self._failures, error)
            if self._observer is not None:
                self._observer.watch_restarted(self.kind.plural, reason)
            await self._clock.sleep(max(asked_s, self._backoff.delay_s(max(1, self._failures), self._rng)))

    async def _list(self) -> None:
        listing: Listing = await self._client.list(self.kind, self.namespace, **self._selectors)
        self._version = listing.resource_version
        self.last_contact_s = self._clock.monotonic()
        self.trouble = None
        for change in self.store.replace(listing.items):
            self._tell(change)
        self._synced.set()

    async def _watch(self) -> None:
        started_s = self._clock.monotonic()
        events = self._client.watch(
            self.kind,
            self.namespace,
            resource_version=self._version or "",
            timeout_s=int(self._watch_s * (1 + self._rng())),
            silence_s=self._silence_s,
            **self._selectors,
        )
        async with aclosing(events):
            async for event in events:
                self._failures = 0
                self.trouble = None
                self.last_contact_s = self._clock.monotonic()
                if event.type == "DELETED":
                    change = self.store.remove(key_of(event.object))
                elif event.type == "BOOKMARK":
                    change = None
                else:
                    change = self.store.put(event.object)
                if change is not None:
                    self._tell(change)
                # Last, so that an event which fails on its way into the store is asked for again.
                self._version = event.object["metadata"]["resourceVersion"]
        # A server that ends each watch at once is as bad as one that fails: the wait grows all the same.
        self._failures = self._failures + 1 if self._clock.monotonic() - started_s < 1.0 else 0

    def _tell(self, change: Change) -> None:
        for handler in self._handlers:
            handler(change)
