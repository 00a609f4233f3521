"""The Tenant controller: reads keys, tells the keyring, writes status."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.api.manifest import Manifest, ResourceKey
from penstock.api.tenant import Tenant
from penstock_kube.client import KubeClient
from penstock_kube.clock import Clock
from penstock_kube.resources import TENANTS, Key, Object, key_of
from penstock_kube.store import Change
from penstock_operator.route.names import NameBook
from penstock_operator.route.publications import Publications
from penstock_operator.runtime.conditions import Condition
from penstock_operator.runtime.controller import Result
from penstock_operator.runtime.finalizers import is_deleting
from penstock_operator.runtime.status import write_status
from penstock_operator.tenant.keyring import Keyring
from penstock_operator.tenant.keys import KeyReader
from penstock_operator.tenant.plan import judge, reference_problems
from penstock_operator.typed import Invalid, TypedWorld
from penstock_operator.world import World


class TenantController:
    """Reconciles Tenants."""

    def __init__(
        self,
        world: World,
        client: KubeClient,
        clock: Clock,
        *,
        typed: TypedWorld,
        names: NameBook,
        keyring: Keyring,
        publications: Publications,
        reader: KeyReader | str,
    ) -> None:
        """Make the reconcile of one Tenant.

        Args:
            world: mirrors.
            client: writes status.
            clock: tells time.
            typed: the mirrors as resource types.
            names: who has which public name.
            keyring: is told of every key.
            publications: what keeps gateways from knowing.
            reader: follows references to Secrets; why no key can be hashed, and what to do, when there is no pepper.
        """
        self._world = world
        self._typed = typed
        self._names = names
        self._keyring = keyring
        self._publications = publications
        self._reader = reader
        self._client = client
        self._clock = clock

    async def reconcile(self, key: Key) -> Result:
        """Make the keyring and the status agree with one Tenant."""
        obj = self._world.tenants.get(*key)
        if obj is None or is_deleting(obj):
            self._forget(key)
            return Result()
        tenant = self._typed.tenants.of(obj)
        if isinstance(tenant, Invalid):
            self._forget(key)
            await self._say(obj, 0, Condition("Ready", "False", "Invalid", tenant.message))
            return Result()
        if isinstance(self._reader, str):
            await self._say(obj, 0, Condition("Ready", "False", "NoPepper", self._reader))
            return Result()
        reading = await self._reader.read(tenant)
        found = [finding.hash for finding in reading.findings if finding.hash is not None]
        # Before this process has read all of them, what is published is not withdrawn.
        published = self._keyring.all_hashes(key) if reading.partial else ()
        self._keyring.put(key, tenant.metadata.creation_timestamp or "", (*found, *published))
        dangling = reference_problems(tenant, self._public(key.namespace))
        keys, condition = judge(tenant, reading.findings, self._keyring.owner, dangling, reading.unwatched)
        await self._say(obj, keys, condition)
        return Result(reading.again_s)

    def tenants_of_secret(self, change: Change) -> Iterable[Key]:
        """Return the Tenants that refer to a Secret."""
        for tenant in self._typed.tenants.all(change.key.namespace):
            if any(entry.secret_ref.name == change.key.name for entry in tenant.spec.keys):
                yield _key(tenant)

    def tenants_of_namespace(self, namespace: str) -> Iterable[Key]:
        """Return the Tenants that name Routes or Models of a namespace."""
        return [_key(tenant) for tenant in self._typed.tenants.all(namespace) if tenant.spec.allowed_routes]

    def all_of(self, namespace: str) -> Iterable[Key]:
        """Return all Tenants of a namespace."""
        return [key_of(obj) for obj in self._world.tenants.all(namespace)]

    def _public(self, namespace: str) -> Manifest:
        def has_name(kind: str, name: str) -> bool:
            return self._names.problem(ResourceKey(kind, namespace, name)) is None

        return Manifest(
            models=tuple(model for model in self._typed.models.all(namespace) if has_name("Model", model.name)),
            routes=tuple(route for route in self._typed.routes.all(namespace) if has_name("Route", route.name)),
        )

    def _forget(self, key: Key) -> None:
        self._keyring.drop(key)
        if isinstance(self._reader, KeyReader):
            self._reader.forget(key)

    async def _say(self, obj: Object, keys: int, condition: Condition) -> None:
        condition = self._publications.qualify(obj["metadata"]["namespace"], condition)
        await write_status(self._client, TENANTS, obj, {"keys": keys}, [condition], now=self._clock.now())


def _key(tenant: Tenant) -> Key:
    return Key(tenant.namespace, tenant.name)
