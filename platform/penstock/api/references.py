"""What resources say of each other: names that must lead somewhere, and names that two may not claim."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
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
    return [*problems, *_claims(manifest)]


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
    public += [model.name for model in manifest.models if model.namespace == space]
    for index, name in enumerate(tenant.spec.allowed_routes or ()):
        if name not in public:
            message = f"there is no Route or Model {name!r} in namespace {space!r}: {_create(public, name)}"
            yield ReferenceProblem(key, "RouteNotFound", f"spec.allowedRoutes[{index}]", message)


def _claims(manifest: Manifest) -> Iterator[ReferenceProblem]:
    """Yield the resources that claim a public model name which another has already.

    A Route goes before a Model of the same name when the Model is one of its backends: that is how traffic of a
    running Model is split without a new name for clients.
    """
    taken: dict[str, ResourceKey] = {}
    behind: dict[str, set[tuple[str, str]]] = {}
    for route in manifest.routes:
        key, name = ResourceKey.of(route), route.model_name
        if name in taken:
            yield _claim(key, "spec.modelName", name, taken[name])
            continue
        taken[name] = key
        behind[name] = {(route.namespace, backend.model) for backend in route.spec.backends}
    for model in manifest.models:
        key = ResourceKey.of(model)
        names = [("metadata.name", model.name)]
        names += [(f"spec.adapters[{i}].name", adapter.name) for i, adapter in enumerate(model.spec.adapters)]
        for field, name in names:
            if name not in taken:
                taken[name] = key
            elif (model.namespace, model.name) not in behind.get(name, set()):
                yield _claim(key, field, name, taken[name])


def _claim(key: ResourceKey, field: str, name: str, holder: ResourceKey) -> ReferenceProblem:
    message = f"the public name {name!r} belongs to {holder} already: choose another, or remove one of them"
    return ReferenceProblem(key, "NameTaken", field, message)


def _create(known: Collection[str], name: str) -> str:
    return suggest(name, known) if known else "create it, or correct the name"
