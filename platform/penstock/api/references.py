"""What resources say of each other: names that must lead somewhere, and names that two may not claim."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.explain import suggest
from penstock.api.manifest import Manifest, ResourceKey
from penstock.api.model import Model
from penstock.api.route import Route
from penstock.api.tenant import Tenant


@dataclass(frozen=True, slots=True)
class ReferenceProblem:
    """A reference that leads nowhere: a condition on the resource that holds it; the others run on."""

    resource: ResourceKey
    reason: str
    """A CamelCase word for a condition's `reason`."""
    field: str
    """Path of the field as written in YAML."""
    message: str

    def __str__(self) -> str:
        return f"{self.resource}: {self.field}: {self.message}"


@dataclass(frozen=True, slots=True)
class NameClaim:
    """A public model name that a resource wants: clients know one holder of each."""

    name: str
    claimant: ResourceKey
    field: str
    """Path of the field that says so."""
    backends: frozenset[str] = frozenset()
    """Of a Route: Models in its namespace, which it may go before."""

    def fronts(self, other: NameClaim) -> bool:
        """Whether this is a Route and the other claimant one of the Models behind it."""
        model = other.claimant
        return model.kind == Model.KIND and model.namespace == self.claimant.namespace and model.name in self.backends


def check_references(
    manifest: Manifest,
    catalog_classes: Iterable[AcceleratorClass] = (),
    presets: Collection[str] | None = None,
) -> list[ReferenceProblem]:
    """Return every reference between resources that leads nowhere, and every public name that two claim.

    Args:
        manifest: the resources; their own AcceleratorClasses go before the catalog's of the same name.
        catalog_classes: AcceleratorClasses that are there without being written down.
        presets: names that `spec.preset` may have; None leaves presets unchecked.
    """
    classes = {c.name: c for c in (*catalog_classes, *manifest.accelerator_classes)}
    problems = [p for model in manifest.models for p in _model_problems(model, classes, presets)]
    problems += [p for route in manifest.routes for p in _route_problems(route, manifest)]
    problems += [p for tenant in manifest.tenants for p in _tenant_problems(tenant, manifest)]
    return [*problems, *_names_taken(manifest)]


def _model_problems(
    model: Model, classes: dict[str, AcceleratorClass], presets: Collection[str] | None
) -> Iterator[ReferenceProblem]:
    key, spec = ResourceKey.of(model), model.spec
    if presets is not None and spec.preset is not None and spec.preset not in presets:
        message = f"{spec.preset!r} is not in the catalog: {suggest(spec.preset, presets)}"
        yield ReferenceProblem(key, "PresetNotFound", "spec.preset", message)
    for index, placement in enumerate(model.placements):
        short = spec.accelerator is not None
        field = "spec.accelerator" if short else f"spec.accelerators[{index}].class"
        wanted = placement.accelerator_class
        found = classes.get(wanted)
        if found is None:
            message = f"there is no AcceleratorClass {wanted!r}: {_create(classes, wanted)}"
            yield ReferenceProblem(key, "AcceleratorClassNotFound", field, message)
            continue
        try:
            found.usd_per_hour(placement.purchase)
        except ValueError as error:
            yield ReferenceProblem(key, "PriceNotFound", field, str(error))


def _route_problems(route: Route, manifest: Manifest) -> Iterator[ReferenceProblem]:
    names = [model.name for model in manifest.models if model.namespace == route.namespace]
    named = [(f"spec.backends[{i}].model", backend.model) for i, backend in enumerate(route.spec.backends)]
    named += [(f"spec.fallbacks[{i}]", name) for i, name in enumerate(route.spec.fallbacks)]
    for field, name in named:
        if name not in names:
            message = f"there is no Model {name!r} in namespace {route.namespace!r}: {_create(names, name)}"
            yield ReferenceProblem(ResourceKey.of(route), "ModelNotFound", field, message)


def _tenant_problems(tenant: Tenant, manifest: Manifest) -> Iterator[ReferenceProblem]:
    key, space = ResourceKey.of(tenant), tenant.namespace
    secrets = {secret.name: secret for secret in manifest.secrets if secret.namespace == space}
    for index, reference in enumerate(entry.secret_ref for entry in tenant.spec.keys):
        field = f"spec.keys[{index}].secretRef"
        secret = secrets.get(reference.name)
        if secret is None:
            message = (
                f"there is no Secret {reference.name!r} in namespace {space!r}: {_create(secrets, reference.name)}"
            )
            yield ReferenceProblem(key, "SecretNotFound", f"{field}.name", message)
        elif not secret.value(reference.key):
            state = "is empty" if secret.value(reference.key) == b"" else "is not there"
            message = f"key {reference.key!r} of Secret {reference.name!r} {state}: put the API key there"
            yield ReferenceProblem(key, "SecretKeyNotFound", f"{field}.key", message)
    public = [route.model_name for route in manifest.routes if route.namespace == space]
    for model in manifest.models:
        if model.namespace == space:
            public += [model.name, *(adapter.name for adapter in model.spec.adapters)]
    for index, name in enumerate(tenant.spec.allowed_routes or ()):
        if name not in public:
            message = f"there is no Route, Model or adapter {name!r} in namespace {space!r}: {_create(public, name)}"
            yield ReferenceProblem(key, "RouteNotFound", f"spec.allowedRoutes[{index}]", message)


def name_claims(resource: Model | Route) -> tuple[NameClaim, ...]:
    """Return the public names that a resource wants."""
    key = ResourceKey.of(resource)
    if isinstance(resource, Route):
        backends = frozenset(backend.model for backend in resource.spec.backends)
        return (NameClaim(resource.model_name, key, "spec.modelName", backends),)
    adapters = enumerate(resource.spec.adapters)
    return (
        NameClaim(resource.name, key, "metadata.name"),
        *(NameClaim(adapter.name, key, f"spec.adapters[{i}].name") for i, adapter in adapters),
    )


def contest(claims: Sequence[NameClaim]) -> tuple[NameClaim, tuple[NameClaim, ...]]:
    """Return who has a name, and who claims it in vain.

    A Route goes before a Model of the same name when the Model is one of its backends: that is how traffic of a
    running Model is split without a new name for clients. Neither of the two loses.

    Args:
        claims: all of one name, at least one, those that go first at the front.
    """
    holder = claims[0]
    for claim in claims[1:]:
        if claim.fronts(holder):
            holder = claim
    return holder, tuple(claim for claim in claims if claim is not holder and not holder.fronts(claim))


def name_taken(claim: NameClaim, holder: NameClaim) -> ReferenceProblem:
    """Return what there is to say of a claim in vain."""
    message = (
        f"the public name {claim.name!r} belongs to {holder.claimant} already: choose another, or remove one of them"
    )
    return ReferenceProblem(claim.claimant, "NameTaken", claim.field, message)


def _names_taken(manifest: Manifest) -> Iterator[ReferenceProblem]:
    """Yield the claims in vain: Routes go first, then Models, each in the order they were read."""
    claimants: tuple[Model | Route, ...] = (*manifest.routes, *manifest.models)
    claims = [claim for claimant in claimants for claim in name_claims(claimant)]
    by_name: dict[str, list[NameClaim]] = {}
    for claim in claims:
        by_name.setdefault(claim.name, []).append(claim)
    lost = {claim: holder for same in by_name.values() for holder, losers in [contest(same)] for claim in losers}
    return (name_taken(claim, lost[claim]) for claim in claims if claim in lost)


def _create(known: Collection[str], name: str) -> str:
    return suggest(name, known) if known else "create it, or correct the name"
