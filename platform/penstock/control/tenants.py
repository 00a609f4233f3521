"""Tenants as gateways see them: key references followed to Secrets, and keys turned into hashes. Pure."""

from __future__ import annotations

import re

from penstock.api.manifest import Manifest
from penstock.api.references import check_references
from penstock.api.tenant import Tenant
from penstock.routing.keys import hash_key
from penstock.routing.snapshot import CompiledTenant

ANONYMOUS = "anonymous"
"""The tenant of every request on a platform that declares no Tenant."""
LONGEST_KEY_BYTES = 1024
"""Gateways do not look at longer ones."""

_UNSENDABLE = re.compile(r"[\s\x00-\x1f\x7f]")


def key_in(value: bytes) -> str | None:
    """Return the API key in an entry of a Secret, or None when it is blank.

    Raises:
        ValueError: no client could send it; the message says why and what to do.
    """
    try:
        # A line end is what editors and `echo` add to a key, and no client sends one.
        text = value.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text: put one API key there, in letters and digits") from None
    if len(text.encode()) > LONGEST_KEY_BYTES:
        raise ValueError(f"is longer than {LONGEST_KEY_BYTES} bytes: put one API key there, and nothing else")
    if _UNSENDABLE.search(text):
        raise ValueError("has white space inside, as of several keys: give each key an entry of its own")
    return text or None


def compiled_tenant(
    tenant: Tenant, key_hashes: tuple[str, ...], *, name: str, allowed: tuple[str, ...] | None
) -> CompiledTenant:
    """Return a Tenant as gateways get it.

    Args:
        tenant: limits and priority are its own.
        key_hashes: one for each key that was found.
        name: what gateways, limits and bills know it by.
        allowed: routes and models that it may name; None for all.
    """
    return CompiledTenant(
        name=name,
        key_hashes=key_hashes,
        allowed=allowed,
        requests_per_minute=tenant.spec.requests_per_minute,
        tokens_per_minute=tenant.spec.tokens_per_minute,
        priority=tenant.spec.priority,
    )


def compile_tenants(manifest: Manifest, pepper: bytes) -> tuple[tuple[CompiledTenant, ...], tuple[str, ...]]:
    """Return the tenants of a manifest, and what is wrong with their keys, in words.

    A key that cannot be found leaves its tenant without that key; everybody else's keys work on.
    """
    tenants: list[CompiledTenant] = []
    problems: list[str] = []
    owners: dict[str, str] = {}
    for tenant in manifest.tenants:
        hashes, wrong = _hashes(tenant, manifest, pepper, owners)
        problems += wrong
        tenants.append(compiled_tenant(tenant, hashes, name=tenant.name, allowed=tenant.spec.allowed_routes))
    return tuple(tenants), tuple(problems)


def dangling(manifest: Manifest) -> tuple[str, ...]:
    """Return what Routes and Tenants refer to and is not in the files; Secrets are judged where they are read."""
    return tuple(
        str(problem)
        for problem in check_references(manifest)
        if problem.resource.kind in {"Route", "Tenant"} and not problem.reason.startswith("Secret")
    )


def _hashes(
    tenant: Tenant, manifest: Manifest, pepper: bytes, owners: dict[str, str]
) -> tuple[tuple[str, ...], list[str]]:
    """Return one tenant's hashes and problems; `owners` holds who has which hash so far, and is added to."""
    hashes: list[str] = []
    problems: list[str] = []
    for key in tenant.spec.keys:
        reference = key.secret_ref
        where = f"Tenant {tenant.name}, key {key.name!r}"
        value = manifest.secret_value(tenant.namespace, reference.name, reference.key)
        if value is None:
            problems.append(
                f"{where}: there is no entry {reference.key!r} in a Secret {reference.name!r}; "
                "add the Secret to the files given to `penstock up`"
            )
            continue
        try:
            text = key_in(value)
        except ValueError as error:
            problems.append(f"{where}: entry {reference.key!r} of Secret {reference.name!r} {error}")
            continue
        if text is None:
            problems.append(f"{where}: Secret {reference.name!r} has an empty entry {reference.key!r}; give it a key")
            continue
        hashed = hash_key(pepper, text)
        owner = owners.setdefault(hashed, tenant.name)
        if owner != tenant.name:
            problems.append(f"{where}: tenant {owner!r} has the same key; give each tenant a key of its own")
            continue
        hashes.append(hashed)
    return tuple(hashes), problems
