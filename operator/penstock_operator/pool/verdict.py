"""What is in the way of each Model, from its pods, its cluster, and Serve."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from penstock.control.conditions import Obstacle, Statement
from penstock.control.fleet import Fleet
from penstock.control.prepared import Prepared
from penstock.control.rollout import with_rollout
from penstock.control.status import ConditionType
from penstock_kube.resources import Object
from penstock_operator.pool.cluster import is_head_ready
from penstock_operator.pool.site import Site
from penstock_operator.pool.troubles import cluster_trouble, head_trouble, pod_troubles

SILENT_S: Final = 10.0
"""How long Serve may be silent before Models say so: a busy head misses a look now and then."""


class Verdict:
    """What was seen of a pool's pods and clusters at one moment."""

    def __init__(
        self, pods: Sequence[Object], clusters: Iterable[Object], unwritten: Obstacle | None, now_s: float
    ) -> None:
        """Look at a pool.

        Args:
            pods: Of its Ray clusters.
            clusters: The clusters.
            unwritten: Why the wanted cluster could not be written.
            now_s: Unix seconds.
        """
        self._now = dt.datetime.fromtimestamp(now_s, dt.UTC)
        self._pods = pods
        self._clusters = {cluster["metadata"]["name"]: cluster for cluster in clusters}
        self._unwritten = unwritten
        self._troubles = pod_troubles(pods, self._now)

    def judge(self, item: Prepared, fleet: Fleet, site: Site | None, now_s: float) -> None:
        """State a Model's conditions anew."""
        name = item.model.name
        plan = None if site is None else site.plans.get(name)
        obstacle = self._obstacle(item, fleet, site, now_s)
        is_unseen = site is not None and (site.dashboard.problem is not None or site.fleet.serve is None)

        def amend(said: tuple[Statement, ...]) -> tuple[Statement, ...]:
            if plan is not None and obstacle is None:
                said = with_rollout(said, plan)
            if is_unseen and obstacle is not None and not obstacle.passing:
                said = tuple(_unknown(statement, obstacle) for statement in said)
            return said

        names = [app.name for app in item.applications]
        carriers = None if plan is None or site is None else site.carriers.get(name)
        fleet.judge(item, names, obstacle, now_s, carriers=carriers, amend=amend)

    def _obstacle(  # noqa: PLR0911 - one line for each thing that may be in the way, the nearest first
        self, item: Prepared, fleet: Fleet, site: Site | None, now_s: float
    ) -> Obstacle | None:
        if item.obstacle is not None:
            return item.obstacle
        if site is None:
            text = "the namespace's RayCluster is being made"
            return self._unwritten or Obstacle(reason="ClusterNotReady", message=text, passing=True, fits=True)
        cluster = self._clusters[site.cluster]
        if not is_head_ready(cluster):
            return head_trouble(cluster, self._pods, self._now)
        if site.dashboard.problem is not None:
            return self._silent(site, site.dashboard.problem, now_s)
        if (refused := self._refused(item, site)) is not None:
            return refused
        if site.ready(item.model.name) >= fleet.models[item.model.name].target:
            return None
        return self._unwritten or self._troubles.get(item.model.name) or cluster_trouble(cluster)

    @staticmethod
    def _refused(item: Prepared, site: Site) -> Obstacle | None:
        for app in item.applications:
            text = site.reconciler.refusal(app.name)
            if text is not None:
                message = f"Ray Serve refused {app.name}: {text}; mend the Model's spec"
                return Obstacle(reason="Refused", message=message, fits=True)
        return None

    @staticmethod
    def _silent(site: Site, problem: str, now_s: float) -> Obstacle:
        since_s = now_s if site.dashboard.silent_since_s is None else site.dashboard.silent_since_s
        text = (
            f"Ray Serve of RayCluster {site.cluster} does not answer: {problem}. Replicas that run go on serving, "
            "and nothing is changed until it does. Check the head pod "
            f"(`kubectl logs -l ray.io/cluster={site.cluster},ray.io/node-type=head`), and that a NetworkPolicy lets "
            "the operator reach port 8265"
        )
        return Obstacle(reason="ServeUnreachable", message=text, passing=now_s - since_s < SILENT_S, fits=True)


def _unknown(statement: Statement, obstacle: Obstacle) -> Statement:
    """Return a statement about what nobody can see just now."""
    if statement.type not in (ConditionType.READY, ConditionType.PROGRESSING):
        return statement
    return msgspec.structs.replace(statement, status=None, reason=obstacle.reason, message=obstacle.message)
