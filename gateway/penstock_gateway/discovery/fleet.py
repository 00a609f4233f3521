"""The fleet: the live form of the latest snapshot, swapped whole, with counters and connections carried over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from penstock.routing.load import ModelLoad
from penstock.routing.pick import split
from penstock.routing.snapshot import CompiledRoute, Replica, RoutingSnapshot
from penstock_gateway.discovery.live import Affinity, LiveModel, LiveReplica, Target, place_of
from penstock_gateway.relay.pool import Pool

_GOLDEN: Final = 0.6180339887498949
"""Multiples of the golden ratio, modulo 1, fall evenly into [0, 1) however many are taken."""


class LiveRoute:
    """A public name and the targets it may lead to."""

    __slots__ = ("backends", "created_s", "fallbacks", "first", "name", "weights")

    def __init__(self, name: str, backends: list[Target], weights: list[int], fallbacks: list[Target]) -> None:
        self.name = name
        self.backends = backends
        self.weights = weights
        self.fallbacks = fallbacks
        self.first = (*backends, *fallbacks)[0]
        """Whose task the route has."""
        self.created_s = self.first.model.served.created_s

    def targets(self, turn: int) -> Iterable[Target]:
        """Return targets in the order to try them: the backend whose turn it is, the others, the fallbacks.

        Args:
            turn: Number of the pick; consecutive ones give each backend its share.
        """
        if len(self.backends) == 1 and not self.fallbacks:
            return self.backends
        chosen = split(self.weights, turn * _GOLDEN % 1.0)
        order = [] if chosen is None else [self.backends[chosen]]
        order += [
            backend
            for place, (backend, weight) in enumerate(zip(self.backends, self.weights, strict=True))
            if place != chosen and weight > 0
        ]
        return order + self.fallbacks


class Fleet:
    """Models, replicas and routes as of the latest snapshot.

    Args:
        connect_s: Deadline of connections to replicas.
    """

    def __init__(self, *, connect_s: float) -> None:
        self._connect_s = connect_s
        self._loads: dict[tuple[str, str], ModelLoad] = {}
        self.affinities: dict[str, Affinity] = {}
        """By model, of every one seen since start, so that no counter goes back."""
        self.snapshot = RoutingSnapshot(version=-1)
        self.models: dict[str, LiveModel] = {}
        self.replicas: dict[str, LiveReplica] = {}
        self.routes: dict[str, LiveRoute] = {}

    @property
    def loads(self) -> Iterable[ModelLoad]:
        """Counters of every model and variant seen since start; those that are gone stay, so that none goes back."""
        return self._loads.values()

    def apply(self, snapshot: RoutingSnapshot) -> None:
        """Swap to a snapshot. Requests in flight keep what they hold; a replica that is gone ends what it has."""
        models = {
            served.name: LiveModel(
                served, self._load(served.name, ""), self.affinities.setdefault(served.name, Affinity())
            )
            for served in snapshot.models
        }
        replicas: dict[str, LiveReplica] = {}
        for replica in snapshot.replicas:
            model = models.get(replica.model)
            if model is None:
                continue  # a model being removed, its replicas not gone yet
            live = replicas[replica.id] = self._replica(replica, model)
            model.replicas.append(live)
        for share in snapshot.shares:
            if share.model in models:
                models[share.model].weights.setdefault(share.variant, share.weight)
        for model in models.values():
            model.compile_shares()
        for gone in self.replicas.values():
            if replicas.get(gone.id) is not gone:
                gone.retired = True
                gone.pool.close()
                gone.model.affinity.index.forget(gone.id)
        for name, affinity in self.affinities.items():
            affinity.index.keep(replica.id for replica in (models[name].replicas if name in models else ()))
        self.snapshot, self.models, self.replicas = snapshot, models, replicas
        self.routes = _routes(snapshot, models)

    def sweep(self, now_s: float, idle_s: float) -> None:
        """Close connections to replicas that nobody used for `idle_s`."""
        for replica in self.replicas.values():
            replica.pool.sweep(now_s, idle_s)

    def close(self) -> None:
        """Close idle connections; those in use close as they end."""
        for replica in self.replicas.values():
            replica.pool.close()

    def _replica(self, replica: Replica, model: LiveModel) -> LiveReplica:
        known = self.replicas.get(replica.id)
        if known is not None and known.at == place_of(replica):
            known.move(replica, model)
            return known
        return LiveReplica(
            replica,
            model,
            self._load(replica.model, replica.variant),
            Pool(replica.address, replica.port, connect_s=self._connect_s),
        )

    def _load(self, model: str, variant: str) -> ModelLoad:
        key = (model, variant)
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = ModelLoad(model=model, variant=variant)
        return load


def _routes(snapshot: RoutingSnapshot, models: dict[str, LiveModel]) -> dict[str, LiveRoute]:
    """Compile public names. Where names collide a Route wins over a Model, and a Model over an adapter."""
    named: dict[str, Target] = {}
    for model in models.values():
        for adapter in model.served.adapters:
            named.setdefault(adapter, Target(model, adapter))
    named.update({name: Target(model, name) for name, model in models.items()})
    routes = {name: LiveRoute(name, [target], [1], []) for name, target in named.items()}
    for compiled in snapshot.routes:
        route = _route(compiled, named)
        if route is not None:
            routes[compiled.name] = route
    return routes


def _route(compiled: CompiledRoute, named: dict[str, Target]) -> LiveRoute | None:
    backends = [backend for backend in compiled.backends if backend.model in named]
    fallbacks = [named[name] for name in compiled.fallbacks if name in named]
    if not backends and not fallbacks:
        return None  # leads nowhere: the name is unknown until one of its models exists
    return LiveRoute(
        compiled.name,
        [named[backend.model] for backend in backends],
        [backend.weight for backend in backends],
        fallbacks,
    )
