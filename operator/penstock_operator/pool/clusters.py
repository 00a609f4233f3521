"""Keeps a pool's RayClusters as they should be: one write when something differs, and none otherwise."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from penstock.control.conditions import Obstacle
from penstock_kube.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, StatusError
from penstock_kube.resources import Object
from penstock_operator.pool.cluster import cluster_name, cluster_object, is_applied
from penstock_operator.pool.groups import WorkerGroup
from penstock_operator.pool.mirrored import Mirrored
from penstock_operator.pool.names import MANAGED, NODE_GROUP_LABEL
from penstock_operator.settings import RayOptions

_PAUSE_S: Final = 30.0
"""How long a cluster that the API server refused is left alone, unless what is wanted changes."""
_GROUP_INDEX = re.compile(r"workerGroupSpecs\[(\d+)\]")

_log = logging.getLogger(__name__)


class Clusters:
    """The RayClusters of one namespace that are ours."""

    def __init__(self, namespace: str, options: RayOptions, mirrored: Mirrored) -> None:
        """Look after a namespace.

        Args:
            namespace: The pool's.
            options: Of all pools.
            mirrored: All RayClusters.
        """
        self.name = cluster_name(options)
        """Of the cluster that there should be."""
        self.refused_groups: dict[str, str] = {}
        """Worker groups that the API server does not take, and why."""
        self.obstacle: Obstacle | None = None
        """Why the cluster cannot be written."""
        self.created: set[str] = set()
        """Names of clusters that this process made: nothing ran there before."""
        self._namespace = namespace
        self._options = options
        self._mirrored = mirrored
        self._failed: tuple[dict[str, Any], float] | None = None
        self._applied: tuple[Any, ...] | None = None
        """What the plan was made from when there was nothing to write."""

    @property
    def all(self) -> list[Object]:
        """The clusters that are there and are not being deleted."""
        return [
            cluster
            for cluster in self._mirrored.all(self._namespace)
            if MANAGED.items() <= (cluster["metadata"].get("labels") or {}).items()
            and not cluster["metadata"].get("deletionTimestamp")
        ]

    async def keep(
        self, groups: Mapping[str, WorkerGroup], used: frozenset[str], pods: Sequence[Object], now_s: float
    ) -> None:
        """Make the wanted cluster what it should be.

        Args:
            groups: Those that Models ask for, by name.
            used: Groups that something runs in.
            pods: Of the namespace's clusters.
            now_s: The time.

        Raises:
            KubeError: the API server does not answer, or this process must not write.
        """
        current = self._mirrored.get(self._namespace, self.name)
        if current is not None and current["metadata"].get("deletionTimestamp"):
            return  # somebody deleted it: the next look makes it anew
        seen = (
            None if current is None else (current["metadata"].get("uid"), current["metadata"]["resourceVersion"]),
            tuple((group.name, group.most) for group in groups.values()),  # a name holds the hash of all else
            used,
            frozenset((pod["metadata"].get("labels") or {}).get(NODE_GROUP_LABEL) for pod in pods),
        )
        if seen == self._applied:
            return
        self.refused_groups = {name: why for name, why in self.refused_groups.items() if name in groups}
        for _ in range(2):  # once more without the groups that were refused
            fit = [group for name, group in groups.items() if name not in self.refused_groups]
            wanted = cluster_object(self._namespace, self._options, fit, current, used=used, pods=pods)
            if is_applied(current, wanted):
                self.obstacle = self._failed = None
                self._applied = None if self.refused_groups else seen
                return
            if self._failed is not None and self._failed[0] == wanted["spec"] and now_s - self._failed[1] < _PAUSE_S:
                return
            if await self._write(wanted, current, now_s):
                return

    async def _write(self, wanted: dict[str, Any], current: Object | None, now_s: float) -> bool:
        """Apply; return whether there is nothing better to try."""
        try:
            await self._mirrored.apply(wanted)
        except ConflictError:
            return True  # Ray's autoscaler was first: its counts are in the next plan
        except StatusError as error:
            named = self._refused(wanted, error)
            if not named and not isinstance(error, (InvalidError, ForbiddenError, NotFoundError)):
                raise
            _log.warning("%s/%s: %s", self._namespace, self.name, error)
            self.refused_groups |= named
            if not named:
                self._failed, self.obstacle = (wanted["spec"], now_s), _obstacle(error)
            return not named
        if current is None:
            self.created.add(self.name)
        self.obstacle = self._failed = None
        return True

    async def delete(self, cluster: Object) -> None:
        """Delete a cluster that has drained."""
        await self._mirrored.delete(cluster)
        self.created.discard(cluster["metadata"]["name"])

    def _refused(self, wanted: Mapping[str, Any], error: StatusError) -> dict[str, str]:
        """Return the groups that an error names."""
        specs = wanted["spec"]["workerGroupSpecs"]
        fields = [str(cause.get("field")) for cause in error.details.get("causes") or ()]
        places = {int(index) for text in (*fields, error.message) for index in _GROUP_INDEX.findall(text)}
        return {specs[place]["groupName"]: error.message for place in places if place < len(specs)}


def _obstacle(error: StatusError) -> Obstacle:
    if isinstance(error, NotFoundError):
        text = f"RayClusters are not known here ({error.message}); install KubeRay 1.6 or later, with its CRDs"
        return Obstacle(reason="KubeRayMissing", message=text, fits=True)
    if "exceeded quota" in error.message:
        text = f"{error.message}; raise the namespace's ResourceQuota"
        return Obstacle(reason="QuotaExceeded", message=text, fits=True)
    return Obstacle(
        reason="RayClusterRefused",
        message=f"the API server refused the RayCluster: {error.message}; check the operator's Role and settings",
        fits=True,
    )
