"""What an uninstall leaves behind, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from penstock.api.crd import CRD_KINDS
from penstock.api.meta import GROUP
from penstock_kube.resources import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What there is; None where nobody could look."""

    models: list[Key]
    routes: list[Key] | None
    tenants: list[Key] | None
    ray_clusters: list[Key] | None
    claims: list[Key] | None
    """PersistentVolumeClaims."""
    pulls: list[Key] | None
    """DaemonSets that have images pulled ahead."""


def describe(left: Left) -> Iterator[str]:
    """Yield lines: first what runs on and costs money, then what only stands there."""
    if left.ray_clusters is None:
        yield "RayClusters could not be looked at: kubectl get rayclusters -A"
    elif left.ray_clusters:
        yield f"still running, and paid for: {counted(len(left.ray_clusters), 'RayCluster')}. To end that:"
        for key in left.ray_clusters:
            yield f"  kubectl -n {key.namespace} delete raycluster {key.name}"
    else:
        yield "no RayCluster runs"
    if left.pulls is None:
        yield "DaemonSets of image pulls could not be looked at: kubectl get daemonsets -A -l penstock.dev/pulls"
    for key in left.pulls or ():
        yield f"still there: a DaemonSet of image pulls: kubectl -n {key.namespace} delete daemonset {key.name}"
    if left.claims is None:
        yield "PersistentVolumeClaims were not looked at: kubectl get pvc -A"
    elif left.claims:
        yield f"kept: {counted(len(left.claims), 'PersistentVolumeClaim')}: {_names(left.claims)}"
    objects = {"Model": left.models, "Route": left.routes, "Tenant": left.tenants}
    counts = [counted(len(keys), name) for name, keys in objects.items() if keys]
    definitions = " ".join(f"{names.plural}.{GROUP}" for names in CRD_KINDS.values())
    if counts:
        yield f"kept with the definitions, and served again after the next install: {', '.join(counts)}"
    yield "where the definitions are kept, this removes them, and everything of their kinds with them:"
    yield f"  kubectl delete crd {definitions}"


def counted(count: int, noun: str) -> str:
    """Return a number of things."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _names(keys: list[Key]) -> str:
    return ", ".join(str(key) for key in keys)
