"""A set of resources, as read from files or from a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.meta import Resource
from penstock.api.model import Model
from penstock.api.route import Route
from penstock.api.tenant import Secret, Tenant

KINDS: Mapping[str, type[Resource]] = MappingProxyType(
    {kind.KIND: kind for kind in (Model, AcceleratorClass, Route, Tenant, Secret)}
)


class ResourceKey(NamedTuple):
    """What tells resources apart."""

    kind: str
    namespace: str
    """Empty for cluster-scoped kinds."""
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    @classmethod
    def of(cls, resource: Resource) -> ResourceKey:
        """Return the key of a resource."""
        return cls(resource.KIND, resource.namespace, resource.name)


class Location(NamedTuple):
    """Where a resource was read."""

    file: Path
    line: int
    """1-based line of the document's first field."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """Resources by kind, in the order they were read; no two share kind, namespace and name."""

    models: tuple[Model, ...] = ()
    accelerator_classes: tuple[AcceleratorClass, ...] = ()
    routes: tuple[Route, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    secrets: tuple[Secret, ...] = ()
    locations: Mapping[ResourceKey, Location] = field(default_factory=lambda: MappingProxyType({}))
    """Where each resource was read; empty when they do not come from files."""

    def __iter__(self) -> Iterator[Resource]:
        yield from self.models
        yield from self.accelerator_classes
        yield from self.routes
        yield from self.tenants
        yield from self.secrets

    def model(self, name: str, namespace: str = "default") -> Model | None:
        """Return the Model of that name, or None."""
        return next((m for m in self.models if (m.name, m.namespace) == (name, namespace)), None)

    def secret_value(self, namespace: str, name: str, key: str) -> bytes | None:
        """Return one entry of a Secret, or None when there is no such Secret or key."""
        found = next((s for s in self.secrets if (s.name, s.namespace) == (name, namespace)), None)
        return None if found is None else found.value(key)
