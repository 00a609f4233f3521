"""The Ray clusters of one pool at work: usually one, and two while everything moves from one to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from penstock.control.fleet import Fleet
from penstock.control.prepared import Prepared
from penstock.control.reconciler import RouteAway
from penstock.control.replicas import Life, Step
from penstock.serve.status import ServeStatus
from penstock_kube.resources import Object
from penstock_operator.pool.cluster import has_never_run, is_head_ready
from penstock_operator.pool.dashboard import Dashboard
from penstock_operator.pool.names import head_service
from penstock_operator.pool.shared import Shared
from penstock_operator.pool.site import Site

GIVE_UP_S: Final = 900.0
"""How long a Serve that does not answer, or whose head is down, holds up the deletion of Models: nothing can be seen
to drain any more."""


class Sites:
    """By name of the RayCluster; the one that there should be comes last."""

    def __init__(self, namespace: str, wanted: str, shared: Shared, base: Fleet, route_away: RouteAway) -> None:
        """Begin without any.

        Args:
            namespace: The pool's.
            wanted: Name of the RayCluster that there should be.
            shared: What all pools share.
            base: The sites' fleets share its models and window.
            route_away: As for `Reconciler`.
        """
        self._namespace, self._wanted = namespace, wanted
        self._shared, self._base, self._route_away = shared, base, route_away
        self._sites: dict[str, Site] = {}
        self._moved: set[tuple[str, str]] = set()
        """Old cluster and model, of each model that another cluster has taken over."""

    def __iter__(self) -> Iterator[Site]:
        return iter(self._sites.values())

    def get(self, name: str) -> Site | None:
        """Return the site of a RayCluster."""
        return self._sites.get(name)

    @property
    def current(self) -> Site | None:
        """The one that there should be."""
        return self._sites.get(self._wanted)

    @property
    def lives(self) -> list[Life]:
        """All replicas."""
        return [life for site in self for life in site.fleet.lives.values()]

    def lives_of(self, model: str) -> list[Life]:
        """Return a model's replicas in all clusters, the oldest first."""
        lives = (life for site in self for life in site.fleet.lives_of(model))
        return sorted(lives, key=lambda life: life.started_s)

    @property
    def leaving(self) -> frozenset[str]:
        """Replicas that are about to be stopped."""
        return frozenset().union(*(site.reconciler.leaving for site in self))

    @property
    def is_blind(self) -> bool:
        """Whether replicas may run that have never been seen."""
        return any(site.is_blind for site in self)

    async def keep(self, clusters: Iterable[Object], is_new: Callable[[str], bool]) -> tuple[Step, ...]:
        """Have a site for each cluster; return the ends of replicas that went with one.

        Args:
            clusters: Those that there are.
            is_new: Whether nothing can run in a cluster that was not begun here.
        """
        there = {cluster["metadata"]["name"]: cluster for cluster in clusters}
        steps: list[Step] = []
        for name, site in list(self._sites.items()):
            if name not in there or there[name]["metadata"].get("uid") != site.uid:
                steps += site.fleet.end_all("ClusterGone", self._shared.clock())
                del self._sites[name]
                await site.close()
        for name, cluster in there.items():
            if name not in self._sites:
                self._sites[name] = self._make(name, cluster, is_new=is_new(name) or has_never_run(cluster))
        ordered = sorted(self._sites, key=lambda name: (name == self._wanted, name))
        self._sites = {name: self._sites[name] for name in ordered}
        self._moved = {(cluster, name) for cluster, name in self._moved if cluster in self._sites}
        return tuple(steps)

    def _make(self, name: str, cluster: Object, *, is_new: bool) -> Site:
        shared = self._shared
        url = shared.settings.ray.dashboard_url.format(service=head_service(name), namespace=self._namespace)
        return Site(
            cluster=name,
            uid=cluster["metadata"].get("uid", ""),
            is_new=is_new,
            dashboard=Dashboard(self._namespace, name, url, kube=shared.kube, clock=shared.clock),
            fleet=Fleet(waits=True, models=self._base.models, window=self._base.window),
            route_away=self._route_away,
        )

    async def look(self, clusters: Iterable[Object]) -> dict[Site, ServeStatus]:
        """Ask the Serve of each cluster whose head answers."""
        ready = []
        for cluster in clusters:
            site = self._sites[cluster["metadata"]["name"]]
            if is_head_ready(cluster):
                ready.append(site)
            else:
                site.note_head_down(self._shared.clock())
        answers = await asyncio.gather(*(site.dashboard.look() for site in ready))
        return {site: status for site, status in zip(ready, answers, strict=True) if status is not None}

    def carriers(self, items: Iterable[Prepared]) -> dict[str, Site]:
        """Return the cluster that carries each Model: the wanted one once it can do as much as the one before it."""
        carriers: dict[str, Site] = {}
        for item in items:
            carrier = self._carrier(item.model.name)
            if carrier is not None:
                carriers[item.model.name] = carrier
        return carriers

    def _carrier(self, model: str) -> Site | None:
        current = self.current
        there = 0 if current is None else current.ready(model)
        for old in self:
            if old is current or (old.cluster, model) in self._moved:
                continue
            here = old.ready(model)
            if old.fleet.serve is None or there < min(self._base.models[model].target, here):
                return old
            if current is not None:
                self._moved.add((old.cluster, model))
        return current

    def is_gone(self, model: str) -> bool:
        """Say whether nothing is left of a model, or nobody will ever be able to tell."""
        now_s = self._shared.clock()
        for site in self:
            if (since_s := site.silent_since_s) is not None and now_s - since_s > GIVE_UP_S:
                continue
            if site.is_blind or site.has_any(model):
                return False
        return True

    def shown(self, carriers: Mapping[str, Site], invalid: Iterable[str]) -> tuple[list[Life], frozenset[str]]:
        """Return the replicas that gateways are to know of, and those among them that get nothing new.

        Replicas of the wanted cluster are kept back until it carries their model: two clusters name variants alike.

        Args:
            carriers: The cluster that carries each Model.
            invalid: Models that stay as they are.
        """
        lives: list[Life] = []
        leaving = set(self.leaving)
        unread = frozenset(invalid)
        for site in self:
            for life in site.fleet.lives.values():
                carrier = site if life.model in unread else carriers.get(life.model)
                if carrier is site or carrier is None or site is not self.current:
                    lives.append(life)
                    leaving |= set() if carrier is site else {life.id}
        return lives, frozenset(leaving)

    async def close(self) -> None:
        """Close idle connections."""
        for site in self:
            await site.close()
        self._sites = {}
