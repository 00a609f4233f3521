"""One RayCluster of a pool at work: what Serve there runs, and what it is to run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from penstock.api.accelerator_class import AcceleratorClass
from penstock.control.brain import as_it_runs
from penstock.control.fleet import Fleet
from penstock.control.prepared import Prepared
from penstock.control.reconciler import Reconciler, RouteAway
from penstock.control.replicas import Step
from penstock.control.revisions import Running, Wanted
from penstock.control.rollout import RolloutPlan, RolloutState, plan_rollout
from penstock.routing.published import GROUP_LABEL
from penstock.scaling.snapshot import ReplicaPhase
from penstock.serve.applications import ServeOptions, spread
from penstock.serve.errors import ServeError
from penstock.serve.plan import DesiredApplication
from penstock.serve.status import ServeStatus, failure_reason
from penstock_operator.pool.adopt import adopted
from penstock_operator.pool.dashboard import Dashboard

SERVE_OPTIONS = ServeOptions(http_host="0.0.0.0")  # noqa: S104 - gateways reach replicas from other pods

_log = logging.getLogger(__name__)


class Site:
    """Follows and changes what one Ray cluster serves."""

    def __init__(
        self,
        *,
        cluster: str,
        uid: str,
        is_new: bool,
        dashboard: Dashboard,
        fleet: Fleet,
        route_away: RouteAway,
    ) -> None:
        """Make a site that has not looked yet.

        Args:
            cluster: Name of the RayCluster.
            uid: Its identity.
            is_new: Whether nothing can run there that was not begun here.
            dashboard: Where its Serve is.
            fleet: The models and replicas here.
            route_away: As for `Reconciler`.
        """
        self.cluster, self.uid = cluster, uid
        self.dashboard = dashboard
        self.fleet = fleet
        self.reconciler = Reconciler(dashboard.client, SERVE_OPTIONS, route_away)
        self._head_down_since_s: float | None = None
        """Since when the head has been down; until Serve answers again, since a new one may know of no replica."""
        self.plans: dict[str, RolloutPlan] = {}
        """By model, as of the last plan."""
        self._states: dict[str, RolloutState] = {}
        self._is_new = is_new
        self._done: tuple[ServeStatus, list[DesiredApplication]] | None = None
        """What was seen and desired when there was nothing to do."""

    def follow(
        self,
        status: ServeStatus,
        engines: Mapping[str, str],
        classes: Mapping[str, AcceleratorClass],
        *,
        survives: bool,
        now_s: float,
    ) -> tuple[Step, ...]:
        """Bring the fleet up to a status.

        Args:
            status: Just read.
            engines: Engine of each Model of the namespace, by name.
            classes: All AcceleratorClasses by name.
            survives: Whether replicas outlive the head, as with GCS fault tolerance.
            now_s: When it was read.
        """
        lost: tuple[Step, ...] = ()
        if self._head_down_since_s is not None and not status.started and not survives:
            lost = self.fleet.end_all("HeadLost", now_s)
        self._head_down_since_s = None
        for name, app in status.applications.items():
            if name not in self.fleet.applications and (found := adopted(app, engines, classes)) is not None:
                self.fleet.applications[name] = found
        self._forget_old(status)
        return (*lost, *self.fleet.follow(status, now_s).steps)

    def note_head_down(self, now_s: float) -> None:
        """Note that the head does not answer, so that Serve was not asked."""
        self.dashboard.problem = None
        if self._head_down_since_s is None:
            self._head_down_since_s = now_s

    @property
    def silent_since_s(self) -> float | None:
        """Since when nothing has been heard of Serve, its head being down or itself mute; None while it answers."""
        known = (self._head_down_since_s, self.dashboard.silent_since_s)
        return min((since_s for since_s in known if since_s is not None), default=None)

    def served(self, model: str) -> int:
        """Return how many replicas Serve aims at for a model; of two revisions of one placement the larger counts."""
        applications = {} if self.fleet.serve is None else self.fleet.serve.applications
        counts: dict[tuple[str, int, str], int] = {}
        for app in self.fleet.applications_of(model):
            placement = (app.accelerator_class, app.accelerators, app.purchase)
            there = applications.get(app.name)
            counts[placement] = max(counts.get(placement, 0), (there.target or 0) if there is not None else 0)
        return sum(counts.values())

    def _forget_old(self, status: ServeStatus) -> None:
        kept = status.applications.keys() | {life.variant for life in self.fleet.lives.values()}
        kept |= {variant.name for plan in self.plans.values() for variant in plan.variants}
        self.fleet.applications = {name: app for name, app in self.fleet.applications.items() if name in kept}

    def plan(self, items: Iterable[Prepared], held: Iterable[str], now_s: float) -> list[DesiredApplication]:
        """Return what Serve is to run.

        Args:
            items: The Models, each with its applications or its obstacle.
            held: Names of Models that stay as they run.
            now_s: The time.
        """
        serve = self.fleet.serve or ServeStatus(started=False, applications={})
        items = list(items)
        names = {item.model.name for item in items}
        self._states = {name: state for name, state in self._states.items() if name in names}
        self.plans = {name: plan for name, plan in self.plans.items() if name in names}
        desired: list[DesiredApplication] = []
        for item in items:
            if item.obstacle is not None:
                desired += as_it_runs(self.fleet.applications_of(item.model.name), serve)
            else:
                desired += self._rolled_out(item, serve, now_s)
        for name in held:
            desired += as_it_runs(self.fleet.applications_of(name), serve)
        return desired

    def _rolled_out(self, item: Prepared, serve: ServeStatus, now_s: float) -> list[DesiredApplication]:
        model, name = item.model, item.model.name
        counts = spread(self.fleet.models[name].target, model.placements)
        wanted = [Wanted(name=app.name, target=count) for app, count in zip(item.applications, counts, strict=True)]
        plan = plan_rollout(wanted, self._running(name, serve), model.spec.rollout, self._states.get(name), now_s)
        self.plans[name], self._states[name] = plan, plan.state
        known = {app.name: app for app in (*self.fleet.applications_of(name), *item.applications)}
        current = {app.name for app in item.applications}
        return [
            DesiredApplication(
                application=known[variant.name], target=variant.target, as_it_runs=variant.name not in current
            )
            for variant in plan.variants
        ]

    def hold(self, items: Iterable[Prepared], held: Iterable[str]) -> list[DesiredApplication]:
        """Return what Serve is to run while another cluster comes up beside this one.

        Models that this one still carries stay, and follow their targets as far as their applications are still wanted.
        Applications of all others go to zero, drain, and are then left out.

        Args:
            items: The Models that this cluster carries, with applications as they are now.
            held: Names of Models that stay as they run.
        """
        serve = self.fleet.serve or ServeStatus(started=False, applications={})
        targets: dict[str, int] = {}
        for item in items:
            targets |= {app.name: _asked(serve, app.name) for app in self.fleet.applications_of(item.model.name)}
            counts = spread(self.fleet.models[item.model.name].target, item.model.placements)
            if item.applications and all(app.name in serve.applications for app in item.applications):
                targets |= {app.name: count for app, count in zip(item.applications, counts, strict=True)}
        for name in held:
            targets |= {app.name: _asked(serve, app.name) for app in self.fleet.applications_of(name)}
        in_use = {life.variant for life in self.fleet.lives.values()} | {
            name for name, count in targets.items() if count
        }
        return [
            DesiredApplication(application=app, target=targets.get(name, 0), as_it_runs=True)
            for name, app in self.fleet.applications.items()
            if name in serve.applications
            and serve.applications[name].status != "DELETING"
            and (name in in_use or _asked(serve, name))
        ]

    def _running(self, model: str, serve: ServeStatus) -> list[Running]:
        lives = [life for life in self.fleet.lives_of(model) if life.id not in self.reconciler.leaving]
        running = []
        for app in self.fleet.applications_of(model):
            found = serve.applications.get(app.name)
            if found is None or found.status == "DELETING":
                continue
            own = [life for life in lives if life.variant == app.name]
            running.append(
                Running(
                    name=app.name,
                    target=found.asked,
                    ready=sum(life.phase is ReplicaPhase.READY for life in own),
                    replicas=sum(life.variant == app.name for life in self.fleet.lives.values()),
                    failed=failure_reason(found.message) if found.has_failed else None,
                )
            )
        return running

    async def reconcile(self, desired: Sequence[DesiredApplication]) -> None:
        """Take one step towards what is desired, unless the last one found nothing to do and all is as it was."""
        serve = self.fleet.serve
        if serve is None or (self._done is not None and self._done[0] is serve and self._done[1] == desired):
            return
        self._done, self.reconciler.steps = None, 0
        try:
            sent = await self.reconciler.reconcile(desired, serve)
        except ServeError as error:
            _log.warning("%s: Ray Serve did not take a call: %s", self.cluster, error)
            return
        self.fleet.refill(sent)
        if not self.reconciler.steps and not self.reconciler.leaving:
            self._done = (serve, list(desired))

    @property
    def carriers(self) -> dict[str, frozenset[str]]:
        """By model, the applications that may have new requests."""
        return {name: plan.carriers for name, plan in self.plans.items()}

    @property
    def weights(self) -> dict[str, int | None]:
        """Share of its model's traffic by application; None for none that is set."""
        return {variant.name: variant.weight for plan in self.plans.values() for variant in plan.variants}

    @property
    def is_blind(self) -> bool:
        """Whether replicas may run here that have never been seen."""
        return self.fleet.serve is None and not self._is_new

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left here, as far as Serve has said."""
        serve = self.fleet.serve
        return not self.fleet.lives and (self._is_new if serve is None else not serve.applications)

    @property
    def used_groups(self) -> frozenset[str]:
        """Worker groups that replicas run in or that applications in Serve ask for."""
        serve = self.fleet.serve
        names = set() if serve is None else set(serve.applications)
        names |= {life.variant for life in self.fleet.lives.values()}
        labels = (self.fleet.applications[name].labels for name in names if name in self.fleet.applications)
        return frozenset(group for group in (item.get(GROUP_LABEL) for item in labels) if group is not None)

    def has_any(self, model: str) -> bool:
        """Say whether an application or a replica of a model is left here, as far as can be seen."""
        serve = self.fleet.serve
        if any(life.model == model for life in self.fleet.lives.values()):
            return True
        applications = () if serve is None else serve.applications
        return any(app.name in applications for app in self.fleet.applications_of(model))

    def ready(self, model: str) -> int:
        """Return how many replicas of a model take requests."""
        return sum(life.phase is ReplicaPhase.READY for life in self.fleet.lives_of(model))

    async def close(self) -> None:
        """Close idle connections."""
        await self.dashboard.client.close()


def _asked(serve: ServeStatus, name: str) -> int:
    """Return how many replicas Serve was last asked for."""
    found = serve.applications.get(name)
    return 0 if found is None or found.status == "DELETING" else found.asked
