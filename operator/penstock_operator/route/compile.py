"""What gateways are to know of one namespace, from the objects that people wrote there. Pure.

Only what has its public name is in it: a Model or Route that lost its name to an older one would otherwise send one
namespace's requests to another's replicas. For the same reason a Route leads to Models of this namespace that are in it
themselves, and a Tenant may name what is in it and nothing else.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from penstock.api.manifest import ResourceKey
from penstock.api.model import Model
from penstock.api.route import Route
from penstock.api.tenant import Tenant
from penstock.control.endpoints import compiled_route, served_model
from penstock.control.tenants import compiled_tenant
from penstock.routing.published import NamespaceRouting
from penstock.routing.snapshot import CompiledTenant


@dataclass(frozen=True, slots=True)
class HashedTenant:
    """A Tenant and the hashes of the keys that are its own."""

    namespace: str
    name: str
    tenant: Tenant | None
    """None when this version cannot read it: it is published without keys and rights, so that a gateway whose only
    Tenant this is goes on asking for a key."""
    key_hashes: tuple[str, ...] = ()

    @property
    def public_name(self) -> str:
        """What gateways, limits and bills know the tenant by."""
        return tenant_name(self.namespace, self.name)


def tenant_name(namespace: str, name: str) -> str:
    """Return what gateways, limits and bills know a Tenant by: `namespace/name`.

    It is never the bare name, even where no other namespace has a Tenant of that name today: a bill must not change
    hands, nor a limit be shared, because somebody else creates or deletes an object. Nor could the oldest have a bare
    name to itself, as with models: two teams may each have a tenant `research`, and neither has to know of the other.
    """
    return f"{namespace}/{name}"


def compile_namespace(
    models: Iterable[Model],
    routes: Iterable[Route],
    tenants: Iterable[HashedTenant],
    lost_adapters: Mapping[ResourceKey, Collection[str]],
) -> NamespaceRouting:
    """Return what to publish, in an order that depends on names alone.

    Args:
        models: the namespace's Models that have their names and are not being deleted.
        routes: likewise its Routes. One of which no Model is left is left out: its name is unknown until there is one.
        tenants: its Tenants.
        lost_adapters: adapters that others have the names of, by Model.
    """
    served = tuple(
        served_model(model, _created_s(model), lost_adapters.get(ResourceKey.of(model), ()))
        for model in sorted(models, key=lambda model: model.name)
    )
    names = {model.name for model in served}
    compiled = (compiled_route(route, names) for route in sorted(routes, key=lambda route: route.name))
    leading = tuple(route for route in compiled if route.backends or route.fallbacks)
    public = names | {route.name for route in leading} | {name for model in served for name in model.adapters}
    return NamespaceRouting(
        models=served,
        routes=leading,
        tenants=tuple(_tenant(hashed, public) for hashed in sorted(tenants, key=lambda hashed: hashed.name)),
    )


def _tenant(hashed: HashedTenant, public: set[str]) -> CompiledTenant:
    tenant = hashed.tenant
    if tenant is None:
        return CompiledTenant(name=hashed.public_name, allowed=())
    wanted = public if tenant.spec.allowed_routes is None else public.intersection(tenant.spec.allowed_routes)
    return compiled_tenant(tenant, hashed.key_hashes, name=hashed.public_name, allowed=tuple(sorted(wanted)))


def _created_s(model: Model) -> int:
    created = model.metadata.creation_timestamp
    return 0 if created is None else int(dt.datetime.fromisoformat(created).timestamp())
