"""The AcceleratorClass controllers, wired to their mirrors."""

from __future__ import annotations

import logging

from penstock.api.accelerator_class import AcceleratorClass
from penstock.catalog import accelerator_classes
from penstock_kube.client import KubeClient
from penstock_kube.clock import Clock, SystemClock
from penstock_kube.resources import NODES
from penstock_kube.store import Change
from penstock_operator.accelerator.controller import AcceleratorController, CatalogController, is_seen
from penstock_operator.accelerator.plan import trim_node
from penstock_operator.part import Part, mirror
from penstock_operator.runtime.controller import Controller
from penstock_operator.runtime.metrics import RuntimeMetrics
from penstock_operator.settings import Settings
from penstock_operator.typed import Typed
from penstock_operator.world import World

_GATHER_S = 1.0
"""Nodes come and go in groups: one look at all of them is enough."""
_log = logging.getLogger(__name__)


def build(
    world: World,
    client: KubeClient,
    settings: Settings,
    *,
    metrics: RuntimeMetrics | None = None,
    clock: Clock | None = None,
) -> Part:
    """Return the controllers of AcceleratorClasses; none where the operator serves single namespaces only.

    Args:
        world: mirrors.
        client: the leader's.
        settings: which namespaces.
        metrics: told of reconciles and watches.
        clock: time and waiting.
    """
    if settings.watch_namespaces:
        _log.info(
            "AcceleratorClasses are read and neither created nor given a status: an operator of single namespaces "
            "has no right on the cluster but to read them"
        )
        return Part(())
    clock = clock or SystemClock()
    nodes = mirror(client, NODES, (), trim=trim_node, observer=metrics)
    classes = AcceleratorController(Typed(AcceleratorClass, world.classes), nodes, client, clock)
    status = Controller("accelerator", classes.reconcile, workers=1, observer=metrics, clock=clock)
    catalog = Controller(
        "catalog",
        CatalogController(world.classes, accelerator_classes(), client).reconcile,
        workers=1,
        observer=metrics,
        clock=clock,
    )

    def look_soon(change: Change) -> None:
        if is_seen(change):
            for key in classes.all_classes():
                status.queue.add_after(key, _GATHER_S)

    for reflector in world.classes.reflectors:
        status.watch(reflector)
        catalog.watch(reflector, lambda _: ())
    for reflector in nodes.reflectors:
        # Not watch: classes have a price to miss also where nobody may read nodes, and this mirror never fills.
        reflector.add_handler(look_soon)
    catalog.queue.add(CatalogController.KEY)
    return Part((status, catalog), (nodes,))
