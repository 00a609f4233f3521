"""What a Tenant's keys and references come to, and what to say of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from penstock.api.manifest import Manifest
from penstock.api.references import ReferenceProblem, check_references
from penstock.api.tenant import Tenant, TenantKey
from penstock.control.tenants import key_in
from penstock.routing.keys import hash_key
from penstock_kube.resources import Key
from penstock_operator.runtime.conditions import Condition

API_KEYS_LABEL: Final = "penstock.dev/api-keys"
"""Label of Secrets that are watched, with the value `true`, so that a changed key counts within a second."""
REREAD_S: Final = 300.0
"""How often Secrets without the label are read again, in seconds."""
LOOK_AGAIN_S: Final = 15.0
"""How often a key that could not be had is looked for again, in seconds."""


@dataclass(frozen=True, slots=True)
class KeyFinding:
    """What came of one entry of `spec.keys`."""

    key: str
    """Its name in the Tenant."""
    hash: str | None = None
    """Hex HMAC-SHA256 of the API key; None when there is none."""
    reason: str = ""
    """Why there is none, or why it may be an old one: a condition's reason. Empty when all is well."""
    message: str = ""
    """The same for people, with the field and the remedy."""


def find_key(tenant: Tenant, index: int, secret: Mapping[str, bytes] | None, pepper: bytes) -> KeyFinding:
    """Return what an entry of `spec.keys` comes to.

    Args:
        tenant: the Tenant.
        index: of the entry.
        secret: the Secret that it refers to, entries by key; None when there is none.
        pepper: the platform's secret.
    """
    key = tenant.spec.keys[index]
    reference = key.secret_ref
    field, space = f"spec.keys[{index}].secretRef", tenant.namespace

    def fault(reason: str, message: str) -> KeyFinding:
        return KeyFinding(key.name, None, reason, message)

    if secret is None:
        create = f"kubectl -n {space} create secret generic {reference.name} --from-literal={reference.key}=KEY"
        message = f"{field}.name: there is no Secret {reference.name!r} in namespace {space!r}: {create}"
        return fault("SecretNotFound", message)
    where = f"{field}.key: entry {reference.key!r} of Secret {reference.name!r}"
    value = secret.get(reference.key)
    if value is None:
        has = ", ".join(sorted(secret)) or "nothing"
        return fault("SecretKeyNotFound", f"{where} is not there: add it, or name one that is (it has {has})")
    try:
        text = key_in(value)
    except ValueError as error:
        return fault("UnusableKey", f"{where} {error}")
    if text is None:
        return fault("EmptyKey", f"{where} is empty: put the API key there")
    return KeyFinding(key.name, hash_key(pepper, text))


def not_read(tenant: Tenant, index: int, error: str, before: KeyFinding | None) -> KeyFinding:
    """Return what an entry of `spec.keys` comes to while its Secret cannot be read: what it was, with a note.

    Args:
        tenant: the Tenant.
        index: of the entry.
        error: why the Secret cannot be read.
        before: what it came to the last time it could be; None when this process never saw it.
    """
    key: TenantKey = tenant.spec.keys[index]
    name = key.secret_ref.name
    message = (
        f"spec.keys[{index}].secretRef.name: Secret {name!r} cannot be read ({error}): let the operator get and list "
        "Secrets in this namespace; keys that worked before work on"
    )
    return KeyFinding(key.name, None if before is None else before.hash, "SecretNotRead", message)


def reference_problems(tenant: Tenant, public: Manifest) -> list[ReferenceProblem]:
    """Return the names in `spec.allowedRoutes` that lead nowhere.

    Args:
        tenant: the Tenant.
        public: Models and Routes of its namespace that have their names.
    """
    manifest = Manifest(models=public.models, routes=public.routes, tenants=(tenant,))
    return [problem for problem in check_references(manifest) if problem.reason == "RouteNotFound"]


def judge(
    tenant: Tenant,
    findings: Sequence[KeyFinding],
    owner: Callable[[str], Key | None],
    dangling: Sequence[ReferenceProblem],
    unwatched: Sequence[str],
) -> tuple[int, Condition]:
    """Return how many keys work, and whether the Tenant is as its spec says.

    Args:
        tenant: the Tenant.
        findings: what came of its keys.
        owner: tells whose a key is, by its hash.
        dangling: references that lead nowhere.
        unwatched: its Secrets that are read again from time to time only.
    """
    this = Key(tenant.namespace, tenant.name)
    wrong: list[tuple[str, str]] = []
    working = 0
    for index, finding in enumerate(findings):
        holder = this if finding.hash is None else owner(finding.hash)
        if holder != this:
            text = f"spec.keys[{index}]: Tenant {holder} has the same key: give each Tenant a key of its own"
            wrong.append(("DuplicateKey", text))
            continue
        working += finding.hash is not None
        if finding.reason:
            wrong.append((finding.reason, finding.message))
    wrong += [(problem.reason, f"{problem.field}: {problem.message}") for problem in dangling]
    if not tenant.spec.keys:
        wrong.append(("NoKeys", "spec.keys is empty, so that nobody can ask as this Tenant: add a key"))
    if wrong:
        rest = f"; {_works(working)}" if working else ""
        return working, Condition("Ready", "False", wrong[0][0], "; ".join(text for _, text in wrong) + rest)
    note = _note(tenant.namespace, unwatched)
    return working, Condition("Ready", "True", "KeysFound", _works(working) + (f". {note}" if note else ""))


def _works(working: int) -> str:
    return "1 key works" if working == 1 else f"{working} keys work"


def _note(namespace: str, unwatched: Sequence[str]) -> str:
    if not unwatched:
        return ""
    names = ", ".join(sorted(unwatched))
    every = f"read again every {REREAD_S / 60:.0f} minutes"
    label = f"kubectl -n {namespace} label secret {' '.join(sorted(unwatched))} {API_KEYS_LABEL}=true"
    return f"Not watched and {every}: Secret {names}; to have a change count at once, {label}"
