"""Has every namespace's pool look, decide and act once a tick, each in its own time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Final

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.model import Model, Placement
from penstock.catalog import accelerator_classes
from penstock.cost.report import CostReport
from penstock.cost.spool import SpoolWriter
from penstock.scaling.decision import Decision
from penstock_kube.client import KubeClient
from penstock_kube.resources import Key, Object
from penstock_kube.store import Change
from penstock_operator.model.prepare import Preparations
from penstock_operator.pool.groups import node_labels, worker_group
from penstock_operator.pool.loads import Loads
from penstock_operator.pool.mirrored import Mirrored
from penstock_operator.pool.pool import Pool
from penstock_operator.pool.shared import Classes, Shared
from penstock_operator.promises import emitter
from penstock_operator.route.names import NameBook
from penstock_operator.runtime.controller import Controller, ReconcileObserver, Result
from penstock_operator.settings import RayOptions, Settings
from penstock_operator.typed import Typed, TypedWorld
from penstock_operator.world import World

WORKERS: Final = 64
"""Pools that are looked at at a time. One whose Serve does not answer holds a worker for some seconds."""


class PoolController:
    """All pools of a process. It acts only while `controller`'s reconciles run, which is while this process leads."""

    def __init__(
        self,
        kube: KubeClient,
        world: World,
        *,
        typed: TypedWorld,
        names: NameBook,
        settings: Settings,
        spool: SpoolWriter,
        report: Callable[[], CostReport | None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make pools that have not looked yet.

        Args:
            kube: Writes RayClusters and EndpointSlices, and reads the tokens of Ray clusters.
            world: Mirrors to read and views to show.
            typed: The world's Models as their type.
            names: Who has which public name.
            settings: The process's.
            spool: Takes replica events.
            report: Returns the newest cost report, if anybody has one.
            clock: Returns Unix seconds.
        """
        self._settings = settings
        self._loads = Loads(
            world.gateways.all,
            period_s=settings.tick_s,
            clock=clock,
            token_file=settings.gateway_token_file,
        )
        self._shared = Shared(
            kube=kube,
            world=world,
            typed=typed,
            names=names,
            # Who may not create the catalog's classes in the cluster goes by them all the same.
            classes=Classes(
                Typed(AcceleratorClass, world.classes), accelerator_classes() if settings.watch_namespaces else ()
            ),
            preparations=Preparations(settings.ray, _labels(settings.ray)),
            settings=settings,
            loads=self._loads,
            clusters=Mirrored(kube, world.ray_clusters),
            slices=Mirrored(kube, world.slices),
            emit=emitter(spool),
            report=report,
            clock=clock,
        )
        self._pools: dict[str, Pool] = {}
        self._reading: asyncio.Task[None] | None = None

    def controller(self, *, observer: ReconcileObserver | None = None) -> Controller:
        """Return the controller, whose keys are namespaces."""
        controller = Controller("pool", self.reconcile, workers=WORKERS, observer=observer)
        world = self._shared.world
        for reflector in world.models.reflectors:
            controller.watch(reflector, _namespace_of_edit)
        for reflector in world.ray_clusters.reflectors:
            controller.watch(reflector, _namespace)
        for mirror in (world.classes, world.pods, world.gateways, world.slices):
            for reflector in mirror.reflectors:
                controller.watch(reflector, lambda _: ())  # read at the next tick; only to be synced before the first
        return controller

    async def reconcile(self, key: Key) -> Result:
        """Bring one namespace's pool one step further; `key.name` is the namespace."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._loads.run(), name="pool-loads")
        pool = self._pools.get(key.name)
        if pool is None:
            pool = self._pools[key.name] = Pool(key.name, self._shared)
        if await pool.tick():
            return Result(requeue_after_s=self._settings.tick_s)
        await pool.close()
        del self._pools[key.name]
        return Result()

    def decisions(self, namespace: str, model: str) -> Sequence[Decision]:
        """Return the last scaling decisions about a Model, the oldest first."""
        pool = self._pools.get(namespace)
        return () if pool is None else pool.decisions.of(model)

    def present(self) -> frozenset[str] | None:
        """Return every replica there is, or None while some Ray cluster has not been looked at."""
        if not self._shared.world.ray_clusters.has_synced:
            return None
        found: set[str] = set()
        for cluster in self._shared.world.ray_clusters.all():
            name, namespace = cluster["metadata"]["name"], cluster["metadata"]["namespace"]
            pool = self._pools.get(namespace)
            replicas = None if pool is None else pool.present(name)
            if replicas is None:
                return None
            found |= replicas
        return frozenset(found)

    async def close(self) -> None:
        """End the readings and close connections."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        for pool in self._pools.values():
            await pool.close()
        await self._loads.close()


def _namespace(change: Change) -> tuple[Key, ...]:
    return (Key("", change.key.namespace),)


def _namespace_of_edit(change: Change) -> tuple[Key, ...]:
    """Return the namespace when somebody made, edited or deleted the object; its status is our own writing."""
    is_same = change.old is not None and change.new is not None and _asked(change.old) == _asked(change.new)
    return () if is_same else _namespace(change)


def _asked(obj: Object) -> tuple[object, ...]:
    metadata = obj["metadata"]
    return metadata.get("uid"), metadata.get("generation"), metadata.get("deletionTimestamp")


def _labels(options: RayOptions) -> Callable[[Model, Placement, AcceleratorClass], dict[str, str]]:
    def labels(model: Model, placement: Placement, accelerator: AcceleratorClass) -> dict[str, str]:
        return node_labels(worker_group(model, placement, accelerator, options))

    return labels
