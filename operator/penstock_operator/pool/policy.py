"""The NetworkPolicy of a pool: who may reach its Ray pods. Pure.

Engines ask for no key, so that whoever reaches one uses it unmetered, and Ray runs what its dashboard is told. What
leaves pods is not ruled: it depends on where model hubs, DNS and the API server are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from penstock_kube.resources import RAY_CLUSTERS, Object
from penstock_operator.pool.names import CLUSTER_LABEL, MANAGED
from penstock_operator.settings import NetworkOptions

POLICY_NAME: Final = "penstock-engines"
"""One name in all namespaces, so that the operator needs no right to anybody else's policies."""
ENGINE_PORTS: Final = (30000, 31000)
"""First and last port of replicas: Serve's defaults, as `penstock_engine.prestop` has them too."""
DASHBOARD_PORT: Final = 8265
"""Where the head takes Serve's configuration."""
METRICS_PORTS: Final = (8080, 44217, 44227)
"""Ray's own figures: of each node, of the autoscaler, of the dashboard."""
_OWNER: Final = ("apiVersion", "kind", "name", "uid")


def policy_object(namespace: str, clusters: Iterable[Object], home: str, network: NetworkOptions) -> dict[str, Any]:
    """Return the policy as it should be applied.

    Args:
        namespace: The pool's.
        clusters: Its RayClusters: the policy goes with the last of them, whoever deletes that.
        home: The namespace of gateways and operator.
        network: How they, KubeRay and who reads figures are recognised.
    """
    pods = {"matchLabels": dict(MANAGED), "matchExpressions": [{"key": CLUSTER_LABEL, "operator": "Exists"}]}
    gateways, operator = (_peer(home, labels) for labels in (network.gateway_labels, network.operator_labels))
    rules: list[dict[str, Any]] = [
        {"from": [{"podSelector": pods}]},
        {"ports": [_ports(*ENGINE_PORTS)], "from": [gateways, operator]},
        {"ports": [_ports(DASHBOARD_PORT)], "from": [operator, *network.ray_operators]},
    ]
    if network.monitoring:
        rules.append({"ports": [_ports(port) for port in METRICS_PORTS], "from": list(network.monitoring)})
    owners = [
        {
            "apiVersion": RAY_CLUSTERS.api_version,
            "kind": RAY_CLUSTERS.kind,
            "name": cluster["metadata"]["name"],
            "uid": cluster["metadata"]["uid"],
        }
        for cluster in clusters
    ]
    return {
        "metadata": {
            "namespace": namespace,
            "name": POLICY_NAME,
            "labels": dict(MANAGED),
            "ownerReferences": sorted(owners, key=lambda owner: owner["name"]),
        },
        "spec": {"podSelector": pods, "policyTypes": ["Ingress"], "ingress": rules},
    }


def is_in_force(current: Object | None, wanted: Mapping[str, Any]) -> bool:
    """Say whether the API server has just this: what somebody added would let others in."""
    if current is None:
        return False
    metadata = current["metadata"]
    return (
        current.get("spec") == wanted["spec"]
        and MANAGED.items() <= (metadata.get("labels") or {}).items()
        and _owners(metadata.get("ownerReferences") or ()) == _owners(wanted["metadata"]["ownerReferences"])
    )


def is_ours(policy: Object) -> bool:
    """Say whether a policy of our name is one that an operator wrote."""
    return MANAGED.items() <= (policy["metadata"].get("labels") or {}).items()


def _peer(namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": dict(labels)},
    }


def _ports(first: int, last: int | None = None) -> dict[str, Any]:
    return {"protocol": "TCP", "port": first, **({} if last is None else {"endPort": last})}


def _owners(references: Sequence[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    return {tuple(reference.get(field) for field in _OWNER) for reference in references}
