"""Reading the keys of Tenants: from the mirror of labelled Secrets, else by single reads from time to time.

No key stays in memory: what is kept of a Secret that is not mirrored are hashes and findings.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.api.tenant import Tenant
from penstock_kube.client import KubeClient
from penstock_kube.clock import Clock
from penstock_kube.errors import KubeError, NotFoundError, NotLeaderError, StatusError
from penstock_kube.resources import SECRETS, Key, Object
from penstock_operator.tenant.plan import LOOK_AGAIN_S, REREAD_S, KeyFinding, find_key, not_read
from penstock_operator.world import Mirror


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of a Tenant's keys."""

    findings: tuple[KeyFinding, ...]
    unwatched: tuple[str, ...]
    """Secrets that are not mirrored."""
    partial: bool
    """Whether a Secret could not be read that this process never read before."""
    again_s: float | None
    """In how many seconds to read again; None when the mirror tells of every change."""


@dataclass(frozen=True, slots=True)
class _Kept:
    of: tuple[str | None, int | None]
    """Uid and generation of the Tenant."""
    read_s: float
    findings: Mapping[str, KeyFinding]
    """By the key's name."""
    fetched: frozenset[str]
    """Names of the keys whose Secrets were not mirrored."""
    period_s: float


class KeyReader:
    """Follows Tenants' references to Secrets."""

    def __init__(self, client: KubeClient, labelled: Mirror, pepper: bytes, clock: Clock) -> None:
        """Read nothing yet.

        Args:
            client: reads single Secrets.
            labelled: Secrets that are watched.
            pepper: the platform's secret.
            clock: says when it is time to read again.
        """
        self._client = client
        self._labelled = labelled
        self._pepper = pepper
        self._clock = clock
        self._kept: dict[Key, _Kept] = {}

    def forget(self, tenant: Key) -> None:
        """Drop what is kept of a Tenant that is gone."""
        self._kept.pop(tenant, None)

    async def read(self, tenant: Tenant) -> Reading:
        """Return what a Tenant's keys come to; Secrets that are not mirrored are read when it is time."""
        key, now_s = Key(tenant.namespace, tenant.name), self._clock.monotonic()
        of = (tenant.metadata.uid, tenant.metadata.generation)
        kept = self._kept.get(key)
        before = {} if kept is None or kept.of[0] != of[0] else kept.findings
        due = kept is None or kept.of != of or now_s >= kept.read_s + kept.period_s
        secrets: dict[str, Mapping[str, bytes] | KubeError | None] = {}
        unwatched: dict[str, None] = {}
        fetched: set[str] = set()
        findings: list[KeyFinding] = []
        for index, entry in enumerate(tenant.spec.keys):
            name = entry.secret_ref.name
            labelled = self._labelled.get(tenant.namespace, name)
            if labelled is not None:
                findings.append(find_key(tenant, index, _entries(labelled), self._pepper))
                continue
            unwatched[name] = None
            fetched.add(entry.name)
            # One that was mirrored until now has lost its label, or is gone: that is not to wait.
            if not due and kept is not None and entry.name in kept.fetched:
                findings.append(before[entry.name])
                continue
            if name not in secrets:
                secrets[name] = await self._get(tenant.namespace, name)
            found = secrets[name]
            if isinstance(found, KubeError):
                findings.append(not_read(tenant, index, _text(found), before.get(entry.name)))
            else:
                findings.append(find_key(tenant, index, found, self._pepper))
        period_s = LOOK_AGAIN_S if any(finding.reason for finding in findings) else REREAD_S
        read_s = now_s if due or kept is None else kept.read_s
        by_name = {finding.key: finding for finding in findings}
        self._kept[key] = _Kept(of, read_s, by_name, frozenset(fetched), period_s)
        partial = any(finding.reason == "SecretNotRead" and finding.hash is None for finding in findings)
        again_s = max(0.1, read_s + period_s - now_s) if unwatched else None
        return Reading(tuple(findings), tuple(unwatched), partial, again_s)

    async def _get(self, namespace: str, name: str) -> Mapping[str, bytes] | KubeError | None:
        try:
            return _entries(await self._client.get(SECRETS, namespace, name))
        except NotFoundError:
            return None
        except NotLeaderError:
            raise
        except KubeError as error:
            return error


def _entries(secret: Object) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def _text(error: KubeError) -> str:
    return error.message if isinstance(error, StatusError) else str(error)
