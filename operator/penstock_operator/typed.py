"""Mirrored objects as resource types: each generation of an object is validated once, however often it is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from penstock.api.errors import ManifestError
from penstock.api.load import parse_resource
from penstock.api.meta import Resource
from penstock.api.model import Model
from penstock.api.route import Route
from penstock.api.scaling import ScalingMode
from penstock.api.tenant import Tenant
from penstock_kube.resources import Key, Object, key_of
from penstock_kube.store import Change
from penstock_operator.world import Mirror, World

R = TypeVar("R", bound=Resource)

_READ = ("name", "namespace", "uid", "generation", "creationTimestamp")


@dataclass(frozen=True, slots=True)
class Invalid:
    """An object that the API server holds and this version of Penstock cannot read, as after a downgrade."""

    message: str
    """What is wrong with which field, and what to do."""


class Typed(Generic[R]):
    """One kind's objects as their resource type, without status, labels and annotations."""

    def __init__(self, kind: type[R], mirror: Mirror) -> None:
        """Read through a mirror.

        Args:
            kind: the resource type.
            mirror: holds the objects.
        """
        self.mirror = mirror
        self._type = kind
        self._known: dict[Key, tuple[tuple[Any, Any], R | Invalid]] = {}
        for reflector in mirror.reflectors:
            reflector.add_handler(self._forget)

    def get(self, namespace: str, name: str) -> R | Invalid | None:
        """Return one object, or None when there is none."""
        obj = self.mirror.get(namespace, name)
        return None if obj is None else self.of(obj)

    def all(self, namespace: str | None = None) -> list[R]:
        """Return the valid objects of one namespace, or all, in the order of their keys."""
        return [typed for obj in self.mirror.all(namespace) if not isinstance(typed := self.of(obj), Invalid)]

    def of(self, obj: Object) -> R | Invalid:
        """Return an object of the mirror as its resource type."""
        key, metadata = key_of(obj), obj["metadata"]
        generation = (metadata.get("uid"), metadata.get("generation"))
        known = self._known.get(key)
        if known is None or known[0] != generation:
            known = self._known[key] = (generation, self._parse(obj))
        return known[1]

    def _parse(self, obj: Object) -> R | Invalid:
        metadata = {field: value for field, value in obj["metadata"].items() if field in _READ}
        data = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}
        try:
            resource = parse_resource(data | ({"spec": _within_bounds(obj["spec"])} if "spec" in obj else {}))
        except ManifestError as error:
            wrong = "; ".join(f"{p.field}: {p.message}" if p.field else p.message for p in error.problems)
            return Invalid(f"this version of Penstock cannot read it: {wrong}")
        if not isinstance(resource, self._type):
            return Invalid(f"this version of Penstock cannot read it: kind: {obj['kind']} is no {self._type.KIND}")
        return resource

    def _forget(self, change: Change) -> None:
        if change.new is None:
            self._known.pop(change.key, None)


def _within_bounds(spec: Any) -> Any:
    """Return a Model's spec with the nearest number of replicas that its bounds allow: they may have moved since."""
    try:
        scaling, replicas = spec["scaling"], spec["replicas"]
        if scaling["mode"] != ScalingMode.PRESSURE:
            return spec
        return {**spec, "replicas": min(max(replicas, scaling["minReplicas"]), scaling["maxReplicas"])}
    except (KeyError, TypeError):
        return spec  # another kind, or nothing that can be read, which is said elsewhere


@dataclass(frozen=True, slots=True)
class TypedWorld:
    """The mirrors of our own namespaced kinds as resource types, shared by all that read them."""

    models: Typed[Model]
    routes: Typed[Route]
    tenants: Typed[Tenant]

    @classmethod
    def of(cls, world: World) -> TypedWorld:
        """Read through a world's mirrors."""
        return cls(Typed(Model, world.models), Typed(Route, world.routes), Typed(Tenant, world.tenants))
