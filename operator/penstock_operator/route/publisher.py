"""Publishes what gateways route by: one ConfigMap a namespace, written when its text differs, also from a hand edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from penstock.api.manifest import ResourceKey
from penstock.api.model import Model
from penstock.api.route import Route
from penstock.routing.published import CONFIG_KEY, CONFIG_MAP, NamespaceRouting, decode_routing, encode_routing
from penstock_kube.client import KubeClient
from penstock_kube.errors import ForbiddenError, InvalidError
from penstock_kube.resources import CONFIG_MAPS, Key, Object, key_of
from penstock_kube.store import Change
from penstock_operator.route.compile import HashedTenant, compile_namespace
from penstock_operator.route.names import NameBook
from penstock_operator.route.publications import Publications
from penstock_operator.runtime.controller import Result
from penstock_operator.runtime.finalizers import is_deleting
from penstock_operator.tenant.keyring import Keyring
from penstock_operator.typed import Invalid, Typed, TypedWorld
from penstock_operator.world import Mirror, World

LABELS: Final[Mapping[str, str]] = {
    "app.kubernetes.io/managed-by": "penstock",
    "app.kubernetes.io/component": "routing",
}
"""Labels of the ConfigMap; one without them is not ours to delete."""
MOST_BYTES: Final = 1_000_000
"""A ConfigMap holds at most a mebibyte, its metadata included."""

_R = TypeVar("_R", Model, Route)


class Publisher:
    """Reconciles the ConfigMap of each namespace."""

    def __init__(
        self,
        world: World,
        config_maps: Mirror,
        client: KubeClient,
        *,
        typed: TypedWorld,
        names: NameBook,
        keyring: Keyring,
        publications: Publications,
    ) -> None:
        """Make the reconcile of one namespace's ConfigMap.

        Args:
            world: mirrors.
            config_maps: mirror of what is published.
            client: writes.
            typed: the mirrors as resource types.
            names: who has which public name.
            keyring: who has which key.
            publications: is told what keeps a namespace from being published.
        """
        self._world = world
        self._config_maps = config_maps
        self._client = client
        self._typed = typed
        self._names = names
        self._keyring = keyring
        self._publications = publications

    async def reconcile(self, key: Key) -> Result:
        """Publish one namespace, or withdraw what is published when nothing is left there."""
        published = self._config_maps.get(*key)
        routing = self.compile(key.namespace)
        if routing == NamespaceRouting():
            if published is not None and _is_ours(published) and not is_deleting(published):
                uid = published["metadata"]["uid"]
                await self._client.delete(CONFIG_MAPS, key.namespace, key.name, uid=uid)
            self._publications.note(key.namespace, None)
            return Result()
        text = encode_routing(routing)
        if published is None or not _is_ours(published) or (published.get("data") or {}).get(CONFIG_KEY) != text:
            await self._publish(key, text)
        self._publications.note(key.namespace, _too_large(text))
        return Result()

    async def _publish(self, key: Key, text: str) -> None:
        if _too_large(text) is not None:
            return
        metadata = {"namespace": key.namespace, "name": key.name, "labels": dict(LABELS)}
        try:
            await self._client.apply(CONFIG_MAPS, {"metadata": metadata, "data": {CONFIG_KEY: text}})
        except (ForbiddenError, InvalidError) as error:
            problem = f"gateways go on with what they have, since ConfigMap {key} is refused: {error.message}"
            self._publications.note(key.namespace, problem)
            raise

    def compile(self, namespace: str) -> NamespaceRouting:
        """Return what a namespace's objects come to."""
        models = self._standing(self._typed.models, Model.KIND, namespace)
        lost = {key: self._names.lost_adapters(key) for key in map(ResourceKey.of, models)}
        return compile_namespace(
            models, self._standing(self._typed.routes, Route.KIND, namespace), self._tenants(namespace), lost
        )

    def seed(self, change: Change) -> None:
        """Take hashes that another leader published as true until this one has read the keys itself."""
        if change.key.name != CONFIG_MAP:
            return
        self._keyring.seed(change.key.namespace, {} if change.new is None else published_keys(change.new))

    def _standing(self, typed: Typed[_R], kind: str, namespace: str) -> list[_R]:
        """Return objects of one kind that have their names and are to stay."""
        return [
            resource
            for obj in typed.mirror.all(namespace)
            if not is_deleting(obj)
            and self._names.problem(ResourceKey(kind, *key_of(obj))) is None
            and not isinstance(resource := typed.of(obj), Invalid)
        ]

    def _tenants(self, namespace: str) -> list[HashedTenant]:
        tenants = []
        for obj in self._world.tenants.all(namespace):
            if is_deleting(obj):
                continue
            key, tenant = key_of(obj), self._typed.tenants.of(obj)
            hashes = self._keyring.hashes(key)
            tenants.append(HashedTenant(*key, None if isinstance(tenant, Invalid) else tenant, hashes))
        return tenants


def published_keys(config_map: Object) -> dict[Key, tuple[str, ...]]:
    """Return the hashes of each Tenant in a published ConfigMap; none when it cannot be read."""
    namespace = config_map["metadata"]["namespace"]
    try:
        routing = decode_routing((config_map.get("data") or {}).get(CONFIG_KEY, "{}"))
    except msgspec.DecodeError:
        return {}
    names = ((tenant.name.partition("/"), tenant.key_hashes) for tenant in routing.tenants)
    return {Key(namespace, name): hashes for (space, _, name), hashes in names if space == namespace and name}


def _too_large(text: str) -> str | None:
    size = len(text.encode())
    if size <= MOST_BYTES:
        return None
    return (
        f"gateways go on with what they have, since Models, Routes and Tenants of this namespace take {size} bytes "
        f"together, and one ConfigMap holds {MOST_BYTES}: move some of them to another namespace"
    )


def _is_ours(config_map: Object) -> bool:
    labels = config_map["metadata"].get("labels") or {}
    return all(labels.get(name) == value for name, value in LABELS.items())
