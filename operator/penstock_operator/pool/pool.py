"""One namespace's pool: looks at all of it, decides, and takes one step. The controller has it do so every second.

Each look starts from what is observed, so that one that fails leaves nothing half done that the next does not see.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from penstock.api.scaling import ScalingMode
from penstock.control.brain import first_target
from penstock.control.fleet import Fleet
from penstock.control.prepared import Prepared
from penstock.control.replicas import Life, Step, event
from penstock.cost.records import ReplicaEventKind
from penstock.scaling.policy import replica_bounds
from penstock.scaling.snapshot import ReplicaPhase
from penstock.serve.plan import DesiredApplication
from penstock_kube.errors import StatusError, UnreachableError
from penstock_kube.resources import Key, Object
from penstock_operator.pool.adopt import ended_unseen
from penstock_operator.pool.attention import Attention
from penstock_operator.pool.cluster import is_head_ready
from penstock_operator.pool.clusters import Clusters
from penstock_operator.pool.decisions import Decisions
from penstock_operator.pool.meter import Meter
from penstock_operator.pool.publisher import Publisher
from penstock_operator.pool.roster import Census, Roster, without_refused
from penstock_operator.pool.shared import Shared
from penstock_operator.pool.site import Site
from penstock_operator.pool.sites import Sites
from penstock_operator.pool.slices import published
from penstock_operator.pool.verdict import Verdict
from penstock_operator.pool.views import Views

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
        self._meter = Meter(shared.emit)
        self._base = Fleet()
        """Models of which nothing runs anywhere."""
        self._sites = Sites(namespace, self._clusters.name, shared, self._base, self._publisher.route_away)
        self._asked: dict[str, int] = {}
        """`spec.replicas` of each model as last seen."""
        self._unmet: set[str] = set()
        """Models of which Serve has not been asked yet what it runs."""
        self._read_s = 0.0
        self._busy: frozenset[str] = frozenset()
        """Models of which gateways have requests."""
        self._attention = Attention()
        self._is_settled = False
        """Whether replicas that ended while nobody looked have been written down."""

    async def tick(self) -> bool:
        """Look, decide, and take a step; return whether there is anything left to look after."""
        now_s = self._shared.clock()
        roster = self._census.take()
        pods = self._shared.world.pods.all(self.namespace)
        items = without_refused(roster.items, self._clusters.refused_groups)
        self._admit(items)
        clusters = await self._keep_clusters(roster, pods, now_s)
        self._write(await self._sites.keep(clusters, self._clusters.created.__contains__))
        if self._sites.current is not None:
            items = self._sites.current.fleet.prepared(items)
        looks = await self._sites.look(clusters)
        survives = self._shared.settings.ray.gcs_redis_address is not None
        for site, status in looks.items():
            classes = self._shared.classes.all()
            self._write(site.follow(status, roster.engines, classes, survives=survives, now_s=now_s))
        self._meet(items)
        carriers = self._sites.carriers(items)
        self._take_loads(roster)
        self._decide(items, carriers, now_s)
        desired = {site: self._desired(site, items, carriers, roster, now_s) for site in self._sites}
        await self._publish(carriers, roster, pods)
        for site in looks:
            await site.reconcile(desired[site])
        verdict = Verdict(pods, clusters, self._clusters.obstacle, now_s)
        self._tell(roster, items, carriers, verdict, now_s)
        return not roster.is_empty or bool(clusters) or bool(self._publisher.current)

    def present(self, cluster: str) -> set[str] | None:
        """Return the replicas of one RayCluster; None while it has not been looked at."""
        site = self._sites.get(cluster)
        return None if site is None or site.is_blind else set(site.fleet.lives)

    async def close(self) -> None:
        """Close connections, and read no engine any more."""
        await self._sites.close()
        self._shared.loads.follow(self.namespace, ())

    def _admit(self, items: Iterable[Prepared]) -> None:
        """Begin with new Models, forget old ones, and follow what others wrote into `spec.replicas`."""
        new, gone = self._base.admit((item.model for item in items), self._shared.clock())
        self._unmet |= set(new)
        for name in gone:
            self._asked.pop(name, None)
            self._attention.forget(name)
            self.decisions.forget(name)
            self._shared.preparations.forget(self.namespace, name)
        for item in items:
            name, asked = item.model.name, item.model.spec.replicas
            key, world = Key(self.namespace, name), self._shared.world
            if self._asked.get(name, asked) != asked and asked != world.scaled(key):
                world.note_scaled(key, asked)  # who goes back to the number that was ours means it as well
                state = self._base.models[name]
                state.target, state.cause = first_target(item.model), "Manual"
            self._asked[name] = asked

    def _meet(self, items: Iterable[Prepared]) -> None:
        """Begin with what runs, where a leader that was lost had told Serve and not yet the API server."""
        if self._sites.is_blind:
            return
        for item in items:
            model, state = item.model, self._base.models[item.model.name]
            if model.name in self._unmet and model.spec.scaling.mode is ScalingMode.PRESSURE:
                served = max((site.served(model.name) for site in self._sites), default=0)
                state.target = max(state.target, min(served, replica_bounds(model)[1]))
        self._unmet.clear()

    async def _keep_clusters(self, roster: Roster, pods: Sequence[Object], now_s: float) -> list[Object]:
        """Make and remove RayClusters; return those that there are."""
        is_wanted = any(item.applications for item in roster.items)
        runs = any(site.has_any(name) for site in self._sites for name in roster.generations)
        current = self._sites.current
        try:
            if is_wanted or runs:
                used = frozenset() if current is None else current.used_groups
                await self._clusters.keep(roster.groups, used, pods, now_s)
            for cluster in self._clusters.all:
                site = self._sites.get(cluster["metadata"]["name"])
                if site is not None and not (site is current and is_wanted) and _is_done(site, cluster, roster):
                    await self._clusters.delete(cluster)
        except (StatusError, UnreachableError) as error:
            _log.warning("%s: the RayCluster could not be written: %s", self.namespace, error)
        return self._clusters.all

    def _write(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if step.life.paid_s is not None:
                self._shared.emit(event(step, str(step.life.application.usd_per_hour)))
            if step.kind is ReplicaEventKind.END:
                self._views.forget_replica(step.life.id)
                self._meter.forget(step.life.id)

    def _take_loads(self, roster: Roster) -> None:
        loads, since_s, lives = self._shared.loads, self._read_s, self._sites.lives
        for load, at_s in loads.reports(roster.generations, since_s):
            self._base.window.gateway(load, at_s)
            self._read_s = max(self._read_s, at_s)
        self._busy = loads.busy.intersection(roster.generations)
        loads.follow(self.namespace, lives)
        readings = loads.readings((life.id for life in lives), since_s)
        for replica, reading in readings.items():
            self._base.window.engine(replica, reading.load, reading.at_s)
            self._read_s = max(self._read_s, reading.at_s)
        self._views.take(readings)
        for life in lives:
            if (answer := readings.get(life.id)) is not None:
                self._meter.take(life, answer)

    def _decide(self, items: Iterable[Prepared], carriers: Mapping[str, Site], now_s: float) -> None:
        for item in items:
            name = item.model.name
            site = carriers.get(name)
            fleet = self._base if site is None else site.fleet
            ready = sum(life.phase is ReplicaPhase.READY for life in fleet.lives_of(name))
            target = fleet.models[name].target
            if not self._attention.is_due(item.model, busy=name in self._busy, ready=ready, target=target, now_s=now_s):
                continue
            for moved in fleet.decide([item], now_s, carriers={} if site is None else site.carriers):
                change = f"{moved.before} -> {moved.after} {moved.cause}: {moved.reason}"
                _log.info("%s/%s: %s", self.namespace, name, change)
            decision = self._base.models[name].decision
            if decision is not None and item.obstacle is None:
                self.decisions.take(decision)

    def _desired(
        self, site: Site, items: Iterable[Prepared], carriers: Mapping[str, Site], roster: Roster, now_s: float
    ) -> list[DesiredApplication]:
        """Return what a cluster is to run: the wanted one every Model, an old one those that it still carries."""
        if site is self._sites.current:
            return site.plan(items, roster.invalid, now_s)
        return site.hold([item for item in items if carriers.get(item.model.name) is site], roster.invalid)

    async def _publish(self, carriers: Mapping[str, Site], roster: Roster, pods: Iterable[Object]) -> None:
        """Tell gateways of the replicas; not before every cluster has been looked at, or some would be missing."""
        if self._sites.is_blind:
            return
        lives, leaving = self._sites.shown(carriers, roster.invalid)
        weights: dict[str, int | None] = {}
        for site in carriers.values():
            weights |= site.weights
        self._settle(lives, roster)
        try:
            await self._publisher.publish(lives, leaving | _on_ending_pods(lives, pods), weights)
        except (StatusError, UnreachableError) as error:
            _log.warning("%s: replicas could not be published: %s", self.namespace, error)

    def _settle(self, lives: Iterable[Life], roster: Roster) -> None:
        """Write the end of replicas that an earlier leader published and that ended while nobody looked."""
        if self._is_settled:
            return
        self._is_settled = True
        known = {life.id for life in lives}
        lost = {id_: variant for id_, (_, variant) in published(self._publisher.current).items() if id_ not in known}
        for end in ended_unseen(lost, roster.engines, self._shared.classes.all(), self._shared.clock()):
            self._shared.emit(end)

    def _tell(
        self, roster: Roster, items: Iterable[Prepared], carriers: Mapping[str, Site], verdict: Verdict, now_s: float
    ) -> None:
        """Say of each Model what is known."""
        report, leaving = self._shared.report(), self._sites.leaving
        for item in items:
            name, site = item.model.name, carriers.get(item.model.name)
            verdict.judge(item, self._base if site is None else site.fleet, site, now_s)
            state, lives, generation = self._base.models[name], self._sites.lives_of(name), roster.generations[name]
            self._views.show(name, state, lives, leaving, generation=generation, report=report, now_s=now_s)
        for name, why in roster.invalid.items():
            generation = roster.generations[name]
            self._views.show_invalid(name, why, self._sites.lives_of(name), generation=generation, now_s=now_s)
        for name in roster.going:
            if self._sites.is_gone(name):
                self._views.forget(name)
            else:
                self._views.show_leaving(name, self._sites.lives_of(name), now_s)


def _is_done(site: Site, cluster: Object, roster: Roster) -> bool:
    """Say whether nothing of ours is left in a cluster that is not wanted any more."""
    if roster.is_empty and (site.dashboard.problem is not None or not is_head_ready(cluster)):
        return not site.fleet.lives
    return site.is_empty


def _on_ending_pods(lives: Iterable[Life], pods: Iterable[Object]) -> set[str]:
    """Return the replicas in pods that are being deleted: a node is drained, or somebody deleted the pod."""
    ending = {(pod.get("status") or {}).get("podIP") for pod in pods if pod["metadata"].get("deletionTimestamp")}
    return {life.id for life in lives if life.address in ending}
