"""The Route controller: writes status."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.api.manifest import ResourceKey
from penstock.api.model import Model
from penstock_kube.client import KubeClient
from penstock_kube.clock import Clock
from penstock_kube.resources import ROUTES, Key, Object
from penstock_kube.store import Change
from penstock_operator.route.names import NameBook
from penstock_operator.route.plan import judge, shares
from penstock_operator.route.publications import Publications
from penstock_operator.runtime.conditions import Condition, find_condition
from penstock_operator.runtime.controller import Result
from penstock_operator.runtime.finalizers import is_deleting
from penstock_operator.runtime.status import write_status
from penstock_operator.runtime.watching import is_new_generation
from penstock_operator.typed import Invalid, TypedWorld
from penstock_operator.world import World


class RouteController:
    """Reconciles Routes."""

    def __init__(
        self,
        world: World,
        client: KubeClient,
        clock: Clock,
        *,
        typed: TypedWorld,
        names: NameBook,
        publications: Publications,
    ) -> None:
        """Make the reconcile of one Route.

        Args:
            world: mirrors.
            client: writes status.
            clock: tells time.
            typed: the mirrors as resource types.
            names: who has which public name.
            publications: what keeps gateways from knowing.
        """
        self._world = world
        self._client = client
        self._clock = clock
        self._typed = typed
        self._names = names
        self._publications = publications

    async def reconcile(self, key: Key) -> Result:
        """Make the status of one Route say what is."""
        obj = self._world.routes.get(*key)
        if obj is None or is_deleting(obj):
            return Result()
        route = self._typed.routes.of(obj)
        if isinstance(route, Invalid):
            fields, condition = {}, Condition("Ready", "False", "Invalid", route.message)
        else:
            fields = {"modelName": route.model_name, "backends": shares(route)}
            problem = self._names.problem(ResourceKey("Route", *key))
            condition = judge(
                route, problem, self._named(key.namespace), lambda name: self._answers(key.namespace, name)
            )
        condition = self._publications.qualify(key.namespace, condition)
        await write_status(self._client, ROUTES, obj, fields, [condition], now=self._clock.now())
        return Result()

    def routes_of_model(self, change: Change) -> Iterable[Key]:
        """Return the Routes that a change of a Model concerns."""
        if not (is_new_generation(change) or _answers(change.old) != _answers(change.new)):
            return
        for route in self._typed.routes.all(change.key.namespace):
            named = {*route.spec.fallbacks, *(backend.model for backend in route.spec.backends)}
            if change.key.name in named:
                yield Key(route.namespace, route.name)

    def routes_of_namespace(self, namespace: str) -> Iterable[Key]:
        """Return all Routes of a namespace."""
        return [Key(route.namespace, route.name) for route in self._typed.routes.all(namespace)]

    def _named(self, namespace: str) -> list[Model]:
        return [
            model
            for model in self._typed.models.all(namespace)
            if self._names.problem(ResourceKey("Model", namespace, model.name)) is None
        ]

    def _answers(self, namespace: str, name: str) -> bool:
        return _answers(self._world.models.get(namespace, name))


def _answers(model: Object | None) -> bool:
    """Return whether a Model is ready, as of whichever generation: a rollout leaves the old replicas answering."""
    ready = None if model is None else find_condition(model, "Ready")
    return ready is not None and ready["status"] == "True"
