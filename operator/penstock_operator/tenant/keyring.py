"""Which Tenant has which key, as hashes, over all namespaces.

A key belongs to one Tenant: the oldest that refers to it, as with public names. What a leader has not read yet counts
as it was published before, so that a change of leader neither withdraws a key nor moves it to another Tenant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from penstock_kube.resources import Key

KeyListener = Callable[[Key], None]
"""Called with a Tenant whose keys may count differently now."""
Age = tuple[str, str, str]
"""Sorts Tenants, the oldest first: creationTimestamp, namespace, name."""


class Keyring:
    """Hashes by Tenant."""

    def __init__(self) -> None:
        self._held: dict[Key, tuple[Age, tuple[str, ...]]] = {}
        self._holders: dict[str, set[Key]] = {}
        self._seeded: set[Key] = set()
        self._listeners: list[KeyListener] = []

    def on_change(self, listener: KeyListener) -> None:
        """Have `listener` called for each Tenant that a change concerns."""
        self._listeners.append(listener)

    def hashes(self, tenant: Key) -> tuple[str, ...]:
        """Return the hashes that are the Tenant's own, in the order of its keys."""
        return tuple(hashed for hashed in self.all_hashes(tenant) if self.owner(hashed) == tenant)

    def all_hashes(self, tenant: Key) -> tuple[str, ...]:
        """Return the hashes that a Tenant refers to, those of others' keys among them."""
        held = self._held.get(tenant)
        return () if held is None else held[1]

    def owner(self, hashed: str) -> Key | None:
        """Return the Tenant that a key belongs to; None when nobody refers to it."""
        return min(self._holders.get(hashed, ()), key=lambda tenant: self._held[tenant][0], default=None)

    def seed(self, namespace: str, published: Mapping[Key, tuple[str, ...]]) -> None:
        """Take over what stands published in a namespace, for Tenants whose keys were not read by this process."""
        for tenant in [tenant for tenant in self._seeded if tenant.namespace == namespace and tenant not in published]:
            self.drop(tenant)
        for tenant, hashes in published.items():
            if tenant in self._seeded or tenant not in self._held:
                # Whoever published them had settled whose they are: they yield to nobody until they are read.
                self._set(tenant, (("", *tenant), hashes))
                self._seeded.add(tenant)

    def put(self, tenant: Key, created: str, hashes: Iterable[str]) -> None:
        """Note the hashes of a Tenant's keys as they were read.

        Args:
            tenant: the Tenant.
            created: its creationTimestamp.
            hashes: in the order of its keys.
        """
        self._seeded.discard(tenant)
        self._set(tenant, ((created, *tenant), tuple(dict.fromkeys(hashes))))

    def drop(self, tenant: Key) -> None:
        """Forget a Tenant that is gone."""
        self._seeded.discard(tenant)
        self._set(tenant, None)

    def _set(self, tenant: Key, held: tuple[Age, tuple[str, ...]] | None) -> None:
        before = self._held.get(tenant)
        if held == before:
            return
        concerned = {tenant}
        for hashed in before[1] if before else ():
            concerned |= self._holders[hashed]
            self._holders[hashed].discard(tenant)
            if not self._holders[hashed]:
                del self._holders[hashed]
        if held is None:
            del self._held[tenant]
        else:
            self._held[tenant] = held
        for hashed in held[1] if held else ():
            concerned |= self._holders.setdefault(hashed, set())
            self._holders[hashed].add(tenant)
        for each in sorted(concerned):
            for listener in self._listeners:
                listener(each)
