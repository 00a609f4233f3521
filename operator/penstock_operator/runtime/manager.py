"""Puts reflectors, controllers, the election and the probes together into one process that stops in order.

Order of a start: reflectors, probes, election, controllers. Order of a stop: controllers finish what they have, the
Lease is released, then reflectors and connections end. Reflectors run in every copy, so that a new leader has all it
needs in memory.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from penstock_kube.errors import NotFoundError
from penstock_kube.events import EventRecorder
from penstock_kube.lease import LeaderElector
from penstock_kube.reflector import Reflector
from penstock_operator.runtime.controller import Controller
from penstock_operator.runtime.health import Health, serve_health
from penstock_operator.runtime.metrics import RuntimeMetrics

_log = logging.getLogger(__name__)


class Manager:
    """One process of an operator."""

    def __init__(
        self,
        *,
        reflectors: Sequence[Reflector],
        controllers: Sequence[Controller],
        elector: LeaderElector,
        recorder: EventRecorder | None = None,
        metrics: RuntimeMetrics,
        registry: CollectorRegistry,
        on_leading: Callable[[], Awaitable[None]] | None = None,
        beside: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
        routes: Sequence[web.AbstractRouteDef] = (),
        remedies: Mapping[str, str] | None = None,
        health_host: str = "0.0.0.0",  # noqa: S104 - the kubelet probes from outside the pod
        health_port: int = 8080,
    ) -> None:
        """Make a process that has not started.

        Args:
            reflectors: mirrors that run whether we lead or not.
            controllers: work that only the leader does.
            elector: decides who leads; also the fence of the controllers' client.
            recorder: writes events while we lead.
            metrics: told of queue lengths.
            registry: served under `/metrics`.
            on_leading: awaited once when this process begins to lead, before the controllers.
            beside: further work of this process, whether it leads or not, each until it is cancelled.
            routes: further answers on the port of the probes.
            remedies: how to get the definitions of an API group that the server may not have, by group.
            health_host: address of the probes.
            health_port: port of the probes; 0 for any free one.
        """
        self.health = Health()
        self.bound_port: int | None = None
        """Port of the probes, once they are served."""
        self._reflectors = reflectors
        self._controllers = controllers
        self._elector = elector
        self._recorder = recorder
        self._registry = registry
        self._on_leading = on_leading
        self._beside = beside
        self._routes = routes
        self._address = (health_host, health_port)
        for number, reflector in enumerate(reflectors, 1):
            # Numbered, since one kind may be mirrored twice, by two selectors.
            name = f"mirror {number}, {'/'.join(filter(None, [reflector.namespace, reflector.kind.plural]))}"
            self.health.add_readiness(name, _sync_check(reflector, (remedies or {}).get(reflector.kind.group)))
        for controller in controllers:
            queue = controller.queue
            metrics.follow_queue(controller.name, queue.__len__, lambda queue=queue: queue.delayed)  # type: ignore[misc]

    async def run(self) -> None:
        """Run until cancelled.

        Raises:
            NotLeaderError: leadership was lost; end the process and let its supervisor start a fresh one.
        """
        host, port = self._address
        async with serve_health(
            self.health, self._registry, host=host, port=port, routes=self._routes
        ) as self.bound_port:
            supports = [
                asyncio.create_task(reflector.run(), name=f"mirror-{reflector.kind.plural}")
                for reflector in self._reflectors
            ]
            supports += [asyncio.create_task(work()) for work in self._beside]
            work = asyncio.create_task(self._elector.run(self._lead), name="election")
            try:
                # None of these ends by itself; if one does, that is a bug and the process ends with it.
                await asyncio.wait((work, *supports), return_when=asyncio.FIRST_COMPLETED)
                for task in (work, *supports):
                    if task.done():
                        task.result()
            finally:
                for tasks in ([work], supports):
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)

    async def _lead(self) -> None:
        if self._on_leading is not None:
            await self._on_leading()
        async with asyncio.TaskGroup() as group:
            if self._recorder is not None:
                group.create_task(self._recorder.run(), name="events")
            for controller in self._controllers:
                group.create_task(controller.run(), name=controller.name)


async def run_until_signalled(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` until it ends or SIGTERM or SIGINT comes, which cancels it and lets it wind down."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main())

    def stop(number: signal.Signals) -> None:
        _log.info("%s: stopping", number.name)
        task.cancel()

    stopped = (signal.SIGTERM, signal.SIGINT)
    for number in stopped:
        loop.add_signal_handler(number, stop, number)
    try:
        with suppress(asyncio.CancelledError):
            await task
    finally:
        for number in stopped:
            loop.remove_signal_handler(number)


def _sync_check(reflector: Reflector, remedy: str | None) -> Callable[[], str | None]:
    def check() -> str | None:
        if reflector.has_synced:
            return None
        if isinstance(reflector.trouble, NotFoundError):
            kind = f"{reflector.kind.plural}.{reflector.kind.group}"
            return f"the API server has no {kind}" + (f": {remedy}" if remedy else "")
        return f"the first list is not read yet{f': {reflector.trouble}' if reflector.trouble else ''}"

    return check
