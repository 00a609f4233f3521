"""One namespace's pool: looks at all of it, decides, and takes one step. The controller has it do so every second.

Each look starts from what is observed, so that one that fails leaves nothing half done that the next does not see.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Final

from penstock.control.brain import first_target
from penstock.control.fleet import Fleet
from penstock.control.prepared import Prepared
from penstock.control.replicas import Life, Step, event
from penstock.cost.records import ReplicaEvent, ReplicaEventKind
from penstock.serve.status import ObservedApplication, ServeStatus
from penstock_kube.errors import ConflictError, NotLeaderError, StatusError, UnreachableError
from penstock_kube.resources import Key, Object
from penstock_operator.pool.adopt import adopted
from penstock_operator.pool.cluster import is_head_ready
from penstock_operator.pool.clusters import Clusters
from penstock_operator.pool.decisions import Decisions
from penstock_operator.pool.names import head_service
from penstock_operator.pool.publisher import Publisher
from penstock_operator.pool.roster import Census, Roster, without_refused
from penstock_operator.pool.shared import Shared
from penstock_operator.pool.site import Site
from penstock_operator.pool.slices import published
from penstock_operator.pool.verdict import Verdict
from penstock_operator.pool.views import Views

_GIVE_UP_S: Final = 900.0
"""How long a Serve that does not answer holds up the deletion of Models: nothing can be seen to drain any more."""

_log = logging.getLogger(__name__)


class Pool:
    """All Models of one namespace and the Ray clusters that serve them."""

    def __init__(self, namespace: str, shared: Shared) -> None:
        """Make a pool that has not looked yet."""
        self.namespace = namespace
        self.decisions = Decisions()
        self._shared = shared
        self._census = Census(namespace, shared)
        self._clusters = Clusters(namespace, shared.settings.ray, shared.clusters)
        self._publisher = Publisher(namespace, shared.slices, shared.loads)
        self._views = Views(shared.world, namespace, period_s=shared.settings.status_period_s)
        self._base = Fleet()
        """Models of which nothing runs anywhere; the sites' fleets share its models and window."""
        self._sites: dict[str, Site] = {}
        """By name of the RayCluster; the last one is that which there should be."""
        self._moved: set[tuple[str, str]] = set()
        """Old cluster and model, of each model that another cluster has taken over."""
        self._asked: dict[str, int] = {}
        """`spec.replicas` of each model as last seen."""
        self._read_s = 0.0
        self._is_settled = False
        """Whether replicas that ended while nobody looked have been written down."""

    async def tick(self) -> bool:
        """Look, decide, and take a step; return whether there is anything left to look after."""
        now_s = self._shared.clock()
        roster = self._census.take()
        items = without_refused(roster.items, self._clusters.refused_groups)
        self._admit(items, now_s)
        clusters = await self._keep_clusters(roster, items, now_s)
        await self._keep_sites(clusters, now_s)
        looks = await self._look(clusters)
        if self._current is not None:
            items = self._current.fleet.prepared(items)
        for site, status in looks.items():
            survives = self._shared.settings.ray.gcs_redis_address is not None
            classes = self._shared.classes.all()
            self._write(site.follow(status, roster.engines, classes, survives=survives, now_s=now_s))
        carriers = self._carriers(items, now_s)
        self._take_loads(roster)
        self._decide(items, carriers, now_s)
        desired = {
            name: site.plan(self._items_of(site, items, carriers), roster.invalid, now_s)
            if site is self._current
            else site.hold(self._items_of(site, items, carriers), roster.invalid)
            for name, site in self._sites.items()
        }
        await self._publish(carriers, roster)
        for site in looks:
            await site.reconcile(desired[site.cluster])
        verdict = Verdict(self._shared.world.pods.all(self.namespace), clusters, self._clusters.obstacle, now_s)
        self._tell(roster, items, carriers, verdict, now_s)
        return not roster.is_empty or bool(clusters) or bool(self._publisher.current)

    @property
    def _current(self) -> Site | None:
        return self._sites.get(self._clusters.name)

    async def close(self, cause: str | None = None) -> None:
        """Close connections; with a cause, every replica has ended for it."""
        for name in list(self._sites):
            await self._end_site(name, cause)
        self._shared.loads.follow(self.namespace, ())

    def _admit(self, items: list[Prepared], now_s: float) -> None:
        """Begin with new Models, forget old ones, and follow what others wrote into `spec.replicas`."""
        _, gone = self._base.admit((item.model for item in items), now_s)
        for name in gone:
            self._asked.pop(name, None)
            self.decisions.forget(name)
        for item in items:
            name, asked = item.model.name, item.model.spec.replicas
            ours = self._shared.world.scaled(Key(self.namespace, name))
            if self._asked.get(name, asked) != asked and asked != ours:
                state = self._base.models[name]
                state.target, state.cause = first_target(item.model), "Manual"
            self._asked[name] = asked

    async def _keep_clusters(self, roster: Roster, items: list[Prepared], now_s: float) -> list[Object]:
        """Make and remove RayClusters; return those that there are."""
        names = {*roster.going, *roster.invalid, *(item.model.name for item in items)}
        runs = any(site.has_any(name) for site in self._sites.values() for name in names)
        pods = self._shared.world.pods.all(self.namespace)
        try:
            if runs or any(item.applications for item in roster.items):
                used = frozenset() if self._current is None else self._current.used_groups
                await self._clusters.keep(roster.groups, used, pods, now_s)
            for cluster in self._clusters.all:
                site = self._sites.get(cluster["metadata"]["name"])
                is_old = site is not self._current or site is None
                if (is_old or not any(item.applications for item in items)) and self._is_done(site, cluster, roster):
                    await self._clusters.delete(cluster)
        except NotLeaderError:
            raise
        except (StatusError, UnreachableError) as error:
            _log.warning("%s: the RayCluster could not be written: %s", self.namespace, error)
        return [cluster for cluster in self._clusters.all if cluster["metadata"]["name"]]

    def _is_done(self, site: Site | None, cluster: Object, roster: Roster) -> bool:
        """Say whether a cluster that is not wanted any more may go: nothing of ours is left in it."""
        if site is None:
            return False  # not looked at yet
        if roster.is_empty and (site.problem is not None or not is_head_ready(cluster)):
            return not site.fleet.lives
        return site.is_empty

    async def _keep_sites(self, clusters: Iterable[Object], now_s: float) -> None:
        """Have a site for each cluster, the wanted one last."""
        there = {cluster["metadata"]["name"]: cluster for cluster in clusters}
        for name, site in list(self._sites.items()):
            if name not in there or there[name]["metadata"].get("uid") != site.uid:
                await self._end_site(name, "ClusterGone")
        for name, cluster in there.items():
            if name not in self._sites:
                self._sites[name] = self._make_site(name, cluster)
        ordered = sorted(self._sites, key=lambda name: (name == self._clusters.name, name))
        self._sites = {name: self._sites[name] for name in ordered}

    def _make_site(self, name: str, cluster: Object) -> Site:
        url = self._shared.settings.ray.dashboard_url.format(service=head_service(name), namespace=self.namespace)
        return Site(
            namespace=self.namespace,
            cluster=name,
            uid=cluster["metadata"].get("uid", ""),
            is_new=name in self._clusters.created,
            url=url,
            kube=self._shared.kube,
            fleet=Fleet(models=self._base.models, window=self._base.window),
            route_away=self._publisher.route_away,
            clock=self._shared.clock,
        )

    async def _end_site(self, name: str, cause: str | None) -> None:
        site = self._sites.pop(name)
        if cause is not None:
            self._write(site.fleet.end_all(cause, self._shared.clock()))
        await site.close()

    async def _look(self, clusters: Iterable[Object]) -> dict[Site, ServeStatus]:
        """Ask the Serve of each cluster whose head answers."""
        ready = []
        for cluster in clusters:
            site = self._sites[cluster["metadata"]["name"]]
            if is_head_ready(cluster):
                ready.append(site)
            else:
                site.head_went, site.problem = True, None
        answers = await asyncio.gather(*(site.look() for site in ready))
        return {site: status for site, status in zip(ready, answers, strict=True) if status is not None}

    def _write(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self._shared.emit(event(step, str(step.life.application.usd_per_hour)))
            if step.kind is ReplicaEventKind.END:
                self._views.forget_replica(step.life.id)

    def _carriers(self, items: Iterable[Prepared], now_s: float) -> dict[str, Site]:
        """Return the cluster that carries each Model: the wanted one once it can do as much as the one before it."""
        carriers: dict[str, Site] = {}
        for item in items:
            name, current = item.model.name, self._current
            there = 0 if current is None else current.ready(name)
            for old in self._sites.values():
                if old is current or (old.cluster, name) in self._moved:
                    continue
                here = old.ready(name)
                if old.fleet.serve is None or there < min(self._base.models[name].target, here):
                    carriers[name] = old
                elif current is not None:
                    self._moved.add((old.cluster, name))
            if name not in carriers and current is not None:
                carriers[name] = current
        self._moved = {(cluster, name) for cluster, name in self._moved if cluster in self._sites}
        return carriers

    def _items_of(self, site: Site, items: list[Prepared], carriers: Mapping[str, Site]) -> list[Prepared]:
        """Return the Models that a cluster is to serve: the wanted one all, an old one those that it carries."""
        if site is self._current:
            return items
        return [item for item in items if carriers.get(item.model.name) is site]

    def _take_loads(self, roster: Roster) -> None:
        loads, since_s = self._shared.loads, self._read_s
        lives = [life for site in self._sites.values() for life in site.fleet.lives.values()]
        loads.follow(self.namespace, lives)
        for load, at_s in loads.reports(roster.generations, since_s):
            self._base.window.gateway(load, at_s)
            self._read_s = max(self._read_s, at_s)
        readings = loads.readings((life.id for life in lives), since_s)
        for replica, reading in readings.items():
            self._base.window.engine(replica, reading.load, reading.at_s)
            self._read_s = max(self._read_s, reading.at_s)
        self._views.take(readings)

    def _decide(self, items: list[Prepared], carriers: Mapping[str, Site], now_s: float) -> None:
        for item in items:
            name = item.model.name
            site = carriers.get(name)
            fleet = self._base if site is None else site.fleet
            counted = {} if site is None else site.carriers
            for moved in fleet.decide([item], now_s, carriers=counted):
                _log.info(
                    "%s/%s: %d -> %d %s: %s",
                    self.namespace, name, moved.before, moved.after, moved.cause, moved.reason,
                )  # fmt: skip
            decision = self._base.models[name].decision
            if decision is not None and item.obstacle is None:
                self.decisions.take(decision)

    async def _publish(self, carriers: Mapping[str, Site], roster: Roster) -> None:
        """Tell gateways of the replicas; not before every cluster has been looked at, or some would be missing."""
        if any(site.is_blind for site in self._sites.values()):
            return
        lives: list[Life] = []
        leaving: set[str] = set()
        weights: dict[str, int | None] = {}
        for site in self._sites.values():
            leaving |= site.reconciler.leaving
            for life in site.fleet.lives.values():
                carrier = site if life.model in roster.invalid else carriers.get(life.model)
                if carrier is site or site is not self._current or carrier is None:
                    lives.append(life)
                    leaving |= set() if carrier is site else {life.id}
        for site in carriers.values():
            weights |= site.weights
        leaving |= self._on_ending_pods(lives)
        self._settle(lives, roster)
        try:
            await self._publisher.publish(lives, frozenset(leaving), weights)
        except NotLeaderError:
            raise
        except (StatusError, UnreachableError, ConflictError) as error:
            _log.warning("%s: replicas could not be published: %s", self.namespace, error)

    def _on_ending_pods(self, lives: Iterable[Life]) -> set[str]:
        """Return the replicas in pods that are being deleted: a node is drained, or somebody deleted the pod."""
        ending = {
            (pod.get("status") or {}).get("podIP")
            for pod in self._shared.world.pods.all(self.namespace)
            if pod["metadata"].get("deletionTimestamp")
        }
        return {life.id for life in lives if life.address in ending}

    def _settle(self, lives: Iterable[Life], roster: Roster) -> None:
        """Write the end of replicas that an earlier leader published and that ended while nobody looked."""
        if self._is_settled:
            return
        self._is_settled = True
        known = {life.id for life in lives}
        classes, now_s = self._shared.classes.all(), self._shared.clock()
        for replica, (_, variant) in published(self._publisher.current).items():
            found = ObservedApplication(name=variant, status="", message="", config=None)
            app = None if replica in known else adopted(found, roster.engines, classes)
            if app is not None:
                life = ReplicaEvent(
                    replica=replica, kind=ReplicaEventKind.END, at_s=now_s, model=app.model, variant=variant,
                    accelerator_class=app.accelerator_class, accelerators=app.accelerators, purchase=app.purchase,
                    usd_per_hour=str(app.usd_per_hour), cause="EndedUnseen",
                )  # fmt: skip
                self._shared.emit(life)

    def _tell(
        self, roster: Roster, items: list[Prepared], carriers: Mapping[str, Site], verdict: Verdict, now_s: float
    ) -> None:
        """Say of each Model what is known."""
        leaving = frozenset().union(*(site.reconciler.leaving for site in self._sites.values()))
        for item in items:
            name, site = item.model.name, carriers.get(item.model.name)
            verdict.judge(item, self._base if site is None else site.fleet, site, now_s)
            self._views.show(
                name,
                self._base.models[name],
                self._lives_of(name),
                leaving,
                generation=roster.generations[name],
                report=self._shared.report(),
                now_s=now_s,
            )
        for name, why in roster.invalid.items():
            generation = roster.generations[name]
            self._views.show_invalid(name, why, self._lives_of(name), generation=generation, now_s=now_s)
        for name in roster.going:
            if self._is_gone(name, now_s):
                self._views.forget(name)
            else:
                self._views.show_leaving(name, self._lives_of(name), now_s)

    def _is_gone(self, name: str, now_s: float) -> bool:
        """Say whether nothing is left of a Model, or nobody will ever be able to tell."""
        for site in self._sites.values():
            if site.silent_since_s is not None and now_s - site.silent_since_s > _GIVE_UP_S:
                continue
            if site.is_blind or site.has_any(name):
                return False
        return True

    def _lives_of(self, name: str) -> list[Life]:
        lives = (life for site in self._sites.values() for life in site.fleet.lives_of(name))
        return sorted(lives, key=lambda life: life.started_s)
