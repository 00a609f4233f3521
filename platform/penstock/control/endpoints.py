"""What gateways are to route by, from the manifests and the replicas that live. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable

import msgspec

from penstock.api.manifest import Manifest
from penstock.api.model import Model
from penstock.api.route import Route
from penstock.control.replicas import Life
from penstock.control.tenants import ANONYMOUS
from penstock.routing.snapshot import (
    Backend,
    CompiledRoute,
    CompiledTenant,
    Replica,
    ReplicaState,
    RoutingSnapshot,
    ServedModel,
    Task,
)
from penstock.scaling.snapshot import ReplicaPhase


def compile_snapshot(
    manifest: Manifest,
    lives: Iterable[Life],
    tenants: tuple[CompiledTenant, ...],
    last: RoutingSnapshot,
    *,
    leaving: frozenset[str] = frozenset(),
    created_s: int = 0,
) -> RoutingSnapshot:
    """Return the snapshot, with the next version if anything differs from the last, else the last itself.

    Args:
        manifest: Models, routes and tenants as the user wants them.
        lives: Replicas, each with where it was last seen to listen: Serve's own list drops out during a build.
        tenants: Compiled tenants.
        last: The snapshot before this one.
        leaving: Replicas about to be stopped: they finish what they have and get nothing new.
        created_s: Unix seconds shown as the creation of every model.
    """
    names = {model.name for model in manifest.models}
    snapshot = RoutingSnapshot(
        version=last.version,
        models=tuple(served_model(model, created_s) for model in manifest.models),
        replicas=tuple(
            sorted(
                (_replica(life, leaving) for life in lives if _is_routable(life) and life.model in names),
                key=lambda replica: replica.id,
            )
        ),
        routes=tuple(compiled_route(route) for route in manifest.routes),
        tenants=tenants,
        anonymous_tenant=None if tenants else ANONYMOUS,
    )
    return last if snapshot == last else msgspec.structs.replace(snapshot, version=last.version + 1)


def served_model(model: Model, created_s: int, lost_adapters: Container[str] = ()) -> ServedModel:
    """Return a Model as gateways get it.

    Args:
        model: The Model.
        created_s: Unix seconds shown as its creation.
        lost_adapters: Adapters that somebody else has the names of.
    """
    return ServedModel(
        name=model.name,
        task=Task(model.spec.task.value),
        created_s=created_s,
        context_length=model.spec.context_length,
        adapters=tuple(adapter.name for adapter in model.spec.adapters if adapter.name not in lost_adapters),
        engine=model.spec.engine.name,
    )


def compiled_route(route: Route, models: Container[str] | None = None) -> CompiledRoute:
    """Return a Route as gateways get it.

    Args:
        route: The Route.
        models: Models that it may lead to; all that it names when None.
    """
    backends = route.spec.backends
    return CompiledRoute(
        name=route.model_name,
        backends=tuple(
            Backend(model=b.model, weight=b.weight) for b in backends if models is None or b.model in models
        ),
        fallbacks=tuple(name for name in route.spec.fallbacks if models is None or name in models),
    )


def _is_routable(life: Life) -> bool:
    return life.phase is not ReplicaPhase.STARTING and life.address is not None and life.port is not None


def _replica(life: Life, leaving: frozenset[str]) -> Replica:
    draining = life.phase is ReplicaPhase.DRAINING or life.id in leaving
    return Replica(
        id=life.id,
        model=life.model,
        variant=life.variant,
        address=life.address or "",
        port=life.port or 0,
        state=ReplicaState.DRAINING if draining else ReplicaState.READY,
    )
