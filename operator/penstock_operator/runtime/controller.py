"""The control loop: keys in, reconciles out, failures later again.

A reconcile is told which object to look at and nothing else: not what happened, not how often. It compares what is
wanted with what is, and does what is missing. So it may be run at any time, twice, or late.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from penstock_kube.clock import Clock, SystemClock
from penstock_kube.errors import ConflictError, KubeError, NotLeaderError
from penstock_kube.reflector import Reflector
from penstock_kube.resources import Key
from penstock_kube.store import Change
from penstock_operator.runtime.workqueue import QueueClosedError, WorkQueue

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """What a reconcile that went well wants next."""

    requeue_after_s: float | None = None
    """Look again after so many seconds, for what no watch tells; None to wait for a change."""


class RetryLaterError(Exception):
    """Raised by a reconcile that cannot go on yet and knows when it may."""

    def __init__(self, message: str, after_s: float) -> None:
        self.after_s = after_s
        super().__init__(message)


Reconcile = Callable[[Key], Awaitable[Result]]


class ReconcileObserver(Protocol):
    """Counts reconciles."""

    def reconciled(self, controller: str, outcome: str, seconds: float) -> None:
        """Note a reconcile; outcome is `ok`, `later`, `conflict`, `refused`, `unreachable` or `bug`."""


class Controller:
    """Runs reconciles for one kind of object."""

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        *,
        workers: int = 2,
        queue: WorkQueue[Key] | None = None,
        observer: ReconcileObserver | None = None,
        clock: Clock | None = None,
        grace_s: float = 5.0,
    ) -> None:
        """Make a controller that has not started.

        Args:
            name: as it stands in logs and metrics.
            reconcile: brings one object's world in order.
            workers: reconciles at a time, never two of one key.
            queue: holds the keys.
            observer: told of each reconcile.
            clock: time and waiting.
            grace_s: how long reconciles may go on when the controller is to stop, in seconds.
        """
        self.name = name
        # An empty queue is false, so that `or` would throw the given one away.
        self.queue: WorkQueue[Key] = WorkQueue(clock=clock) if queue is None else queue
        self._reconcile = reconcile
        self._workers = workers
        self._observer = observer
        self._clock = clock or SystemClock()
        self._grace_s = grace_s
        self._sources: list[Reflector] = []

    def watch(self, reflector: Reflector, to_keys: Callable[[Change], Iterable[Key]] | None = None) -> None:
        """Reconcile when a collection changes.

        Args:
            reflector: mirrors the collection; the controller starts when it has synced.
            to_keys: which of our objects a change concerns, for instance the owner; by default the changed object.
        """
        self._sources.append(reflector)

        def handle(change: Change) -> None:
            for key in [change.key] if to_keys is None else to_keys(change):
                self.queue.add(key)

        reflector.add_handler(handle)

    async def run(self) -> None:
        """Work until cancelled; then take no new key and let reconciles that run finish within the grace time."""
        for reflector in self._sources:
            await reflector.wait_synced()
        pump = asyncio.create_task(self.queue.run(), name=f"{self.name}-delays")
        workers = [asyncio.create_task(self._work(), name=f"{self.name}-{n}") for n in range(self._workers)]
        try:
            # Not gather: it would hand a cancellation on to the workers, who are to finish what they have.
            await asyncio.wait((pump, *workers), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.queue.close()
            timer = asyncio.ensure_future(self._clock.sleep(self._grace_s))
            while not timer.done() and not all(worker.done() for worker in workers):
                running = [worker for worker in workers if not worker.done()]
                await asyncio.wait((timer, *running), return_when=asyncio.FIRST_COMPLETED)
            for task in (timer, pump, *workers):
                task.cancel()
            await asyncio.gather(timer, pump, *workers, return_exceptions=True)
        for task in (pump, *workers):  # none of them ends by itself but by a bug in this runtime
            task.result()

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except QueueClosedError:
                return
            started_s = self._clock.monotonic()
            try:
                outcome = await self._once(key)
            finally:
                self.queue.done(key)
            if self._observer is not None:
                self._observer.reconciled(self.name, outcome, self._clock.monotonic() - started_s)

    async def _once(self, key: Key) -> str:
        """Reconcile one key, queue what follows, and return the outcome: the boundary that no failure crosses."""
        try:
            result = await self._reconcile(key)
        except RetryLaterError as later:
            self.queue.add_after(key, later.after_s)
            _log.info("%s %s: %s; again in %.1f s", self.name, key, later, later.after_s)
            return "later"
        except ConflictError as error:
            # Somebody wrote meanwhile. The watch will show us, if it has not yet.
            delay_s = self.queue.add_failed(key)
            _log.info("%s %s: %s; again in %.1f s", self.name, key, error, delay_s)
            return "conflict"
        except NotLeaderError:
            # Perhaps only in doubt: a process that was frozen may yet renew its lease, and must not have forgotten a
            # key by then. If leadership is gone, the leader's own task ends this process's work.
            self.queue.add_failed(key)
            return "refused"
        except KubeError as error:
            delay_s = self.queue.add_failed(key, at_least_s=error.retry_after_s or 0.0)
            _log.warning("%s %s: %s; again in %.1f s", self.name, key, error, delay_s)
            return "unreachable" if error.retryable else "refused"
        except Exception:  # noqa: BLE001 - one object's bug must not stop the others; the traceback is logged
            delay_s = self.queue.add_failed(key)
            _log.exception("%s %s: a bug; again in %.1f s", self.name, key, delay_s)
            return "bug"
        self.queue.forget(key)
        if result.requeue_after_s is not None:
            self.queue.add_after(key, result.requeue_after_s)
        return "ok"
