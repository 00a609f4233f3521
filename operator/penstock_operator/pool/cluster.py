"""The RayCluster of a pool: what it should be, from the worker groups that its Models ask for. Pure.

A cluster's name holds the hash of Ray's version and of its head, neither of which KubeRay changes in place. So a change
of them is another cluster beside the old one, and traffic moves when it serves.

The API server takes a list of worker groups as one value, so an apply carries what others write into it: the counts of
Ray's autoscaler, and the pods that it has chosen to stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from penstock.serve.plan import contains
from penstock_kube.resources import Object
from penstock_operator.pool.groups import OBJECT_STORE_BYTES, WorkerGroup
from penstock_operator.pool.names import CLUSTER_LABEL, MANAGED, NODE_GROUP_LABEL, digest
from penstock_operator.pool.pods import CONTAINER_SECURITY, head_template
from penstock_operator.settings import RayOptions

_AUTOSCALER_RESOURCES: Final = {
    "requests": {"cpu": "100m", "memory": "512Mi"},
    "limits": {"cpu": "500m", "memory": "512Mi"},
}
_PASSWORD_KEY = "password"  # noqa: S105 - the key of a Secret, no secret


def cluster_name(options: RayOptions) -> str:
    """Return the name of the cluster that a pool should have."""
    return f"penstock-{digest(_head(options))}"


def cluster_object(
    namespace: str,
    options: RayOptions,
    groups: Iterable[WorkerGroup],
    current: Object | None,
    *,
    used: frozenset[str] = frozenset(),
    pods: Sequence[Object] = (),
) -> dict[str, Any]:
    """Return the RayCluster as it should be applied.

    Args:
        namespace: The pool's.
        options: Of all pools.
        groups: Those that the Models ask for now.
        current: The cluster as the API server has it.
        used: Groups that replicas still run in or applications still ask for.
        pods: The cluster's pods. A group that nobody asks for goes to zero, and leaves when its last pod has.
    """
    name = cluster_name(options)
    live = {group["groupName"]: group for group in _groups(current)}
    wanted = {group.name: _group_spec(group, live.get(group.name)) for group in groups}
    populated = {pod["metadata"].get("labels", {}).get(NODE_GROUP_LABEL) for pod in pods if _is_of(pod, name)}
    for old in live.keys() - wanted.keys():
        if old in used:
            wanted[old] = dict(live[old])
        elif old in populated or live[old].get("maxReplicas"):
            wanted[old] = {**live[old], "minReplicas": 0, "maxReplicas": 0, "replicas": 0}
    metadata: dict[str, Any] = {
        "namespace": namespace,
        "name": name,
        "labels": dict(MANAGED),
        "annotations": {"ray.io/enable-serve-service": "true"},
    }
    if current is not None:
        # Counts that changed since were chosen by the autoscaler: a conflict has us look again.
        metadata["resourceVersion"] = current["metadata"]["resourceVersion"]
    return {
        "metadata": metadata,
        "spec": {
            **_head(options),
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": {
                "version": "v2",
                "idleTimeoutSeconds": options.idle_timeout_s,
                "imagePullPolicy": options.image_pull_policy,
                "resources": _AUTOSCALER_RESOURCES,
                "securityContext": CONTAINER_SECURITY,
            },
            "workerGroupSpecs": [wanted[key] for key in sorted(wanted)],
        },
    }


def is_applied(current: Object | None, wanted: Mapping[str, Any]) -> bool:
    """Say whether the API server has all that is wanted, but for what it adds itself."""
    return (
        current is not None
        and contains(current["spec"], wanted["spec"])
        and contains(current["metadata"].get("labels", {}), wanted["metadata"]["labels"])
        and contains(current["metadata"].get("annotations", {}), wanted["metadata"]["annotations"])
    )


def is_head_ready(cluster: Object) -> bool:
    """Say whether KubeRay has seen the head answer."""
    status = cluster.get("status") or {}
    conditions = {item.get("type"): item for item in status.get("conditions") or ()}
    head = conditions.get("HeadPodReady")
    return status.get("state") == "ready" if head is None else head.get("status") == "True"


def has_never_run(cluster: Object) -> bool:
    """Say whether KubeRay has never seen a head of this cluster answer: nothing can have been started there."""
    status = cluster.get("status") or {}
    conditions = {item.get("type"): item.get("status") for item in status.get("conditions") or ()}
    return not (
        is_head_ready(cluster)
        or conditions.get("RayClusterProvisioned") == "True"
        or status.get("state") == "ready"
        or "ready" in (status.get("stateTransitionTimes") or {})
    )


def _head(options: RayOptions) -> dict[str, Any]:
    """Return the part of the spec that no running cluster can change."""
    spec: dict[str, Any] = {
        "rayVersion": options.version,
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {
                # No replica may run beside the control plane.
                "num-cpus": "0",
                "num-gpus": "0",
                "dashboard-host": "0.0.0.0",  # noqa: S104 - reached from other pods, with the token
                "object-store-memory": str(OBJECT_STORE_BYTES),
            },
            "template": head_template(options),
        },
    }
    if options.gcs_redis_address is not None:
        redis: dict[str, Any] = {"redisAddress": options.gcs_redis_address}
        if options.gcs_redis_secret is not None:
            source = {"secretKeyRef": {"name": options.gcs_redis_secret, "key": _PASSWORD_KEY}}
            redis["redisPassword"] = {"valueFrom": source}
        spec["gcsFaultToleranceOptions"] = redis
    return spec


def _groups(cluster: Object | None) -> Sequence[Mapping[str, Any]]:
    return () if cluster is None else cluster["spec"].get("workerGroupSpecs") or ()


def _group_spec(group: WorkerGroup, live: Mapping[str, Any] | None) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "groupName": group.name,
        "labels": dict(group.labels),
        "minReplicas": 0,
        "maxReplicas": group.most,
        "replicas": 0,
        "numOfHosts": 1,
        **group.template,
    }
    if live is not None:
        spec |= {name: live[name] for name in ("replicas", "scaleStrategy") if name in live}
    return spec


def _is_of(pod: Object, cluster: str) -> bool:
    return bool(pod["metadata"].get("labels", {}).get(CLUSTER_LABEL) == cluster)
