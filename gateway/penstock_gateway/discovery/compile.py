"""From what every namespace has published to the one snapshot that a gateway routes by. Pure.

Public names are shared by all namespaces: the namespace that was published first has a name, and what others publish
under it is left out, their replicas too. A Route leads to models of its own namespace only, and a tenant reaches names
of its own namespace only, so that who may write in one namespace has no way into another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from penstock.routing.published import NamespaceRouting
from penstock.routing.snapshot import (
    CompiledRoute,
    CompiledTenant,
    Replica,
    RoutingSnapshot,
    ServedModel,
    VariantShare,
)
from penstock_gateway.discovery.objects import PublishedRouting, PublishedSlice


class Content(msgspec.Struct):
    """What is known of the cluster; also the form of the cache file."""

    routings: dict[str, PublishedRouting] = msgspec.field(default_factory=dict)
    """By namespace."""
    slices: dict[str, PublishedSlice] = msgspec.field(default_factory=dict)
    """By namespace and name, with a slash between."""


class Compiled(NamedTuple):
    """A snapshot, and what could not go into it."""

    snapshot: RoutingSnapshot
    taken: tuple[str, ...]
    """What was left out because another namespace has its name, in words."""


def compile_content(content: Content, *, version: int, anonymous_tenant: str | None) -> Compiled:
    """Return the snapshot of all namespaces.

    Args:
        content: What is known.
        version: The snapshot's.
        anonymous_tenant: The tenant of requests without a key; None when a key is required.
    """
    order = sorted(content.routings, key=lambda namespace: (content.routings[namespace].created, namespace))
    routings = {namespace: content.routings[namespace].routing for namespace in order}
    names, taken_names = _claim(routings, _names, "the name")
    tenants, taken_tenants = _claim(routings, lambda routing: (tenant.name for tenant in routing.tenants), "the tenant")
    foreign = [
        f"the tenant {name!r} of {namespace} is named like one of another namespace"
        for namespace in order
        for name in sorted(tenants[namespace])
        if _is_foreign(name, namespace)
    ]
    replicas, shares = _replicas(content.slices, names)
    snapshot = RoutingSnapshot(
        version=version,
        models=tuple(model for namespace in order for model in _models(routings[namespace], names[namespace])),
        replicas=replicas,
        shares=shares,
        routes=tuple(route for namespace in order for route in _routes(routings[namespace], names[namespace])),
        tenants=tuple(
            _confine(tenant, names[namespace])
            for namespace in order
            for tenant in routings[namespace].tenants
            if tenant.name in tenants[namespace] and not _is_foreign(tenant.name, namespace)
        ),
        anonymous_tenant=anonymous_tenant,
    )
    return Compiled(snapshot, (*taken_names, *taken_tenants, *foreign))


def _is_foreign(tenant: str, namespace: str) -> bool:
    """Whether a tenant's name, which is `namespace/name`, says that it belongs elsewhere: bills go by these names."""
    home, slash, _ = tenant.partition("/")
    return bool(slash) and home != namespace


def _names(routing: NamespaceRouting) -> Iterator[str]:
    """Yield every public name that a namespace lays claim to."""
    for model in routing.models:
        yield model.name
        yield from model.adapters
    for route in routing.routes:
        yield route.name


def _claim(
    routings: Mapping[str, NamespaceRouting], claims: Callable[[NamespaceRouting], Iterable[str]], what: str
) -> tuple[dict[str, frozenset[str]], list[str]]:
    """Return the names that each namespace has, given in the order in which they come, and the claims in vain."""
    owners: dict[str, str] = {}
    taken: list[str] = []
    has: dict[str, frozenset[str]] = {}
    for namespace, routing in routings.items():
        wanted = dict.fromkeys(claims(routing))
        taken += [f"{what} {name!r} of {namespace} belongs to {owners[name]}" for name in wanted if name in owners]
        has[namespace] = frozenset(name for name in wanted if name not in owners)
        owners.update(dict.fromkeys(has[namespace], namespace))
    return has, taken


def _models(routing: NamespaceRouting, names: frozenset[str]) -> Iterator[ServedModel]:
    for model in routing.models:
        if model.name in names:
            adapters = tuple(adapter for adapter in model.adapters if adapter in names)
            yield msgspec.structs.replace(model, adapters=adapters)


def _routes(routing: NamespaceRouting, names: frozenset[str]) -> Iterator[CompiledRoute]:
    for route in routing.routes:
        if route.name in names:
            yield msgspec.structs.replace(
                route,
                backends=tuple(backend for backend in route.backends if backend.model in names),
                fallbacks=tuple(fallback for fallback in route.fallbacks if fallback in names),
            )


def _confine(tenant: CompiledTenant, names: frozenset[str]) -> CompiledTenant:
    reachable = names if tenant.allowed is None else names.intersection(tenant.allowed)
    return msgspec.structs.replace(tenant, allowed=tuple(sorted(reachable)))


def _replicas(
    slices: Mapping[str, PublishedSlice], names: Mapping[str, frozenset[str]]
) -> tuple[tuple[Replica, ...], tuple[VariantShare, ...]]:
    """Return the replicas and shares of models that have their names."""
    replicas: dict[str, Replica] = {}
    shares: dict[tuple[str, str], VariantShare] = {}
    for key in sorted(slices):
        published = slices[key]
        namespace, _, _ = key.partition("/")
        if published.model not in names.get(namespace, ()):
            continue
        for replica in published.replicas:
            replicas.setdefault(replica.id, replica)
        if published.weight is not None:
            share = VariantShare(model=published.model, variant=published.variant, weight=published.weight)
            shares.setdefault((share.model, share.variant), share)
    return tuple(replicas.values()), tuple(shares.values())
