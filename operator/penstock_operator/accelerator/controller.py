"""The AcceleratorClass controllers: one writes status, one brings the catalog in when a leader starts."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from penstock.api.accelerator_class import AcceleratorClass
from penstock_kube.client import KubeClient
from penstock_kube.clock import Clock
from penstock_kube.errors import AlreadyExistsError, ForbiddenError
from penstock_kube.resources import ACCELERATOR_CLASSES, Key, key_of
from penstock_kube.store import Change
from penstock_operator.accelerator.catalog import new_object, newer_figures
from penstock_operator.accelerator.plan import NodeView, node_view, survey
from penstock_operator.runtime.conditions import Condition
from penstock_operator.runtime.controller import Result, RetryLaterError
from penstock_operator.runtime.finalizers import is_deleting
from penstock_operator.runtime.status import write_status
from penstock_operator.typed import Invalid, Typed
from penstock_operator.world import Mirror

LOOK_AGAIN_S: Final = 60.0
"""How often to look whether nodes may be read by now, in seconds."""
_NOT_YET_S = 0.5
_log = logging.getLogger(__name__)


class AcceleratorController:
    """Reconciles AcceleratorClasses."""

    def __init__(self, classes: Typed[AcceleratorClass], nodes: Mirror, client: KubeClient, clock: Clock) -> None:
        """Make the reconcile of one class.

        Args:
            classes: the classes.
            nodes: the cluster's nodes.
            client: writes status.
            clock: tells time.
        """
        self._classes = classes
        self._nodes = nodes
        self._client = client
        self._clock = clock

    async def reconcile(self, key: Key) -> Result:
        """Make the status of one class say what nodes there are for it."""
        again_s: float | None = None
        obj = self._classes.mirror.get(*key)
        if obj is None or is_deleting(obj):
            return Result()
        accelerator = self._classes.of(obj)
        if isinstance(accelerator, Invalid):
            condition = Condition("Ready", "False", "Invalid", accelerator.message)
            fields: dict[str, Any] = {}
        else:
            views = self._views()
            again_s = LOOK_AGAIN_S if views is None else None
            fields, condition = survey(accelerator, views)
        await write_status(self._client, ACCELERATOR_CLASSES, obj, fields, [condition], now=self._clock.now())
        return Result(again_s)

    def all_classes(self) -> Iterable[Key]:
        """Return every class: a node may have what any of them names."""
        return [key_of(obj) for obj in self._classes.mirror.all()]

    def _views(self) -> list[NodeView] | None:
        """Return what is read of the nodes; None when nobody may.

        Raises:
            RetryLaterError: they are not read yet.
        """
        if self._nodes.has_synced:
            return [node_view(node) for node in self._nodes.all()]
        if any(isinstance(reflector.trouble, ForbiddenError) for reflector in self._nodes.reflectors):
            return None
        raise RetryLaterError("nodes are not read yet", _NOT_YET_S)


def is_seen(change: Change) -> bool:
    """Return whether a change of a node is one of what we read of it: kubelets write their status every few minutes."""
    if change.old is None or change.new is None:
        return True
    return node_view(change.old) != node_view(change.new)


class CatalogController:
    """Brings the catalog's classes in, once: who deletes one keeps it away until another leader starts."""

    KEY = Key("", "catalog")

    def __init__(self, classes: Mirror, catalog: Iterable[AcceleratorClass], client: KubeClient) -> None:
        """Make the reconcile.

        Args:
            classes: the cluster's classes.
            catalog: this release's.
            client: writes them.
        """
        self._classes = classes
        self._catalog = tuple(catalog)
        self._client = client

    async def reconcile(self, _: Key) -> Result:
        """Create what is missing, and update what nobody edited."""
        for entry in self._catalog:
            stored = self._classes.get("", entry.name)
            if stored is None:
                await self._create(entry)
            elif (patch := newer_figures(stored, entry)) is not None:
                await self._client.merge_patch(ACCELERATOR_CLASSES, "", entry.name, patch)
                _log.info("AcceleratorClass %s: updated from the catalog of this release", entry.name)
        return Result()

    async def _create(self, entry: AcceleratorClass) -> None:
        try:
            await self._client.create(ACCELERATOR_CLASSES, new_object(entry))
        except AlreadyExistsError:
            return  # the mirror has not seen it yet
        _log.info("AcceleratorClass %s: created from the catalog", entry.name)
