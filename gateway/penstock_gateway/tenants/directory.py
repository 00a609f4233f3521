"""The tenant directory: from an `authorization` header to a tenant, compiled once per snapshot.

A key is hashed for every request (about a microsecond) and not looked up in a cache of keys, so that no key outlives
its request in memory. The look-up by hash needs no constant-time comparison: who cannot compute the HMAC without the
pepper learns nothing from how long a dictionary takes.
"""

from __future__ import annotations

from typing import Final

from penstock.routing.keys import KeyHasher
from penstock.routing.snapshot import CompiledTenant, RoutingSnapshot
from penstock_gateway.errors import InvalidKeyError
from penstock_gateway.tenants.limits import TenantLimits

_SEEN_KEYS: Final = 4096
"""Bounds what a snapshot's directory remembers; beyond, it begins anew."""
_KEY_BYTES: Final = 1024
"""No key is longer; whatever is, is not worth hashing."""


class Tenant:
    """A tenant as requests see it."""

    __slots__ = ("allowed", "compiled", "limits", "name")

    def __init__(self, compiled: CompiledTenant, limits: TenantLimits) -> None:
        self.compiled = compiled
        self.limits = limits
        self.name = compiled.name
        self.allowed = None if compiled.allowed is None else frozenset(compiled.allowed)

    def may_use(self, name: str) -> bool:
        """Return whether the tenant may name this route or model."""
        return self.allowed is None or name in self.allowed


class TenantDirectory:
    """All tenants of one snapshot.

    Args:
        snapshot: Where the tenants stand.
        pepper: The platform's secret; None when there is none, and then no key is known.
        now_s: Monotonic time, for limits that begin now.
        before: The directory that this one replaces: limits that did not change go on from there.
    """

    def __init__(
        self, snapshot: RoutingSnapshot, pepper: bytes | None, *, now_s: float, before: TenantDirectory | None = None
    ) -> None:
        self._hasher = None if pepper is None else KeyHasher(pepper)
        self._by_hash: dict[str, Tenant] = {}
        self._seen: dict[bytes, Tenant] = {}
        """Headers that were good, for as long as the snapshot lives: a key is hashed once and not for each request."""
        self._by_name: dict[str, Tenant] = {}
        for compiled in snapshot.tenants:
            tenant = self._by_name[compiled.name] = Tenant(compiled, _limits(compiled, now_s, before))
            for key_hash in compiled.key_hashes:
                self._by_hash.setdefault(key_hash, tenant)  # a key that two claim is the first one's
        self._anonymous: Tenant | None = None
        if snapshot.anonymous_tenant is not None:
            name = snapshot.anonymous_tenant
            unlimited = CompiledTenant(name=name)
            self._anonymous = self._by_name.get(name) or Tenant(unlimited, TenantLimits(unlimited, now_s))

    def knows(self, name: str) -> bool:
        """Return whether there is a tenant of that name."""
        return name in self._by_name or (self._anonymous is not None and self._anonymous.name == name)

    def authenticate(self, authorization: bytes | None) -> Tenant:
        """Return the tenant of a request.

        Without a key that is the anonymous tenant, where the snapshot names one. Where no tenant has a key, any key
        is taken for none, since OpenAI's clients always send one. A key that is wrong is refused, never ignored.

        Raises:
            InvalidKeyError: no key where one is needed, or an unknown one.
        """
        anonymous = self._anonymous
        if authorization is None:
            if anonymous is not None:
                return anonymous
            raise InvalidKeyError("No API key was given. Send the header 'Authorization: Bearer YOUR_KEY'.")
        if not self._by_hash and anonymous is not None:
            return anonymous
        tenant = self._seen.get(authorization)
        if tenant is not None:
            return tenant
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            raise InvalidKeyError(
                "The Authorization header is not a bearer key. Send 'Authorization: Bearer YOUR_KEY'."
            )
        if self._hasher is not None and len(key) <= _KEY_BYTES:
            tenant = self._by_hash.get(self._hasher.hash(key.strip()))
            if tenant is not None:
                if len(self._seen) >= _SEEN_KEYS:
                    self._seen.clear()
                self._seen[authorization] = tenant
                return tenant
        raise InvalidKeyError("The API key is not known here. Check it, or ask the platform's operator for a new one.")


def _limits(compiled: CompiledTenant, now_s: float, before: TenantDirectory | None) -> TenantLimits:
    known = None if before is None else before._by_name.get(compiled.name)  # noqa: SLF001 - of the same class
    same = known is not None and (known.compiled.requests_per_minute, known.compiled.tokens_per_minute) == (
        compiled.requests_per_minute,
        compiled.tokens_per_minute,
    )
    return known.limits if known is not None and same else TenantLimits(compiled, now_s)
