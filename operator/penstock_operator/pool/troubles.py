"""What pods tell of why replicas do not come up, in the words of a Model's conditions. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from penstock.control.conditions import Obstacle
from penstock.routing.published import MODEL_LABEL
from penstock_kube.resources import Object

PATIENCE_S: Final = 300.0
"""How long a pod may wait for a node before that counts as trouble: node autoscalers take minutes."""
_IMAGE_REASONS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ImageInspectError"})
_CONFIG_REASONS: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def pod_troubles(pods: Iterable[Object], now: dt.datetime) -> dict[str, Obstacle]:
    """Return what is in the way of each Model that has a pod in trouble, by its name."""
    found: dict[str, Obstacle] = {}
    for pod in pods:
        model = (pod["metadata"].get("labels") or {}).get(MODEL_LABEL)
        obstacle = None if model is None else pod_trouble(pod, now)
        if model is not None and obstacle is not None:
            found.setdefault(model, obstacle)
    return found


def pod_trouble(pod: Object, now: dt.datetime) -> Obstacle | None:
    """Return what keeps a pod from running, or None."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return None
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            waited_s = _age_s(condition.get("lastTransitionTime"), now)
            text = (
                f"pod {name} waits for a node: {condition.get('message', '')}. Add nodes of the accelerator class, "
                "check its nodeSelector and tolerations (`kubectl get acceleratorclass -o yaml`), or use another class"
            )
            return Obstacle(reason="Unschedulable", message=text, passing=waited_s < PATIENCE_S, fits=True)
    for container, state in _states(status):
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason") in _IMAGE_REASONS:
            text = (
                f"pod {name}: the image of {container} cannot be pulled: {waiting.get('message', waiting['reason'])}. "
                "Check spec.engine.image, that the registry can be reached from the nodes, and imagePullSecrets"
            )
            return Obstacle(reason="ImagePullFailed", message=text, fits=True)
        if waiting.get("reason") in _CONFIG_REASONS:
            text = (
                f"pod {name}: {container} cannot be started: {waiting.get('message', waiting['reason'])}. "
                "Check the Secrets that the Model names, and spec.podTemplate"
            )
            return Obstacle(reason="PodConfigInvalid", message=text, fits=True)
        if ended.get("reason") == "OOMKilled":
            text = (
                f"pod {name}: {container} needed more memory than its limit and was killed. "
                "Raise resources.limits.memory in spec.podTemplate"
            )
            return Obstacle(reason="OutOfMemory", message=text, fits=True)
    return None


def cluster_trouble(cluster: Object) -> Obstacle | None:
    """Return why KubeRay cannot make the pods of a cluster, or None."""
    conditions = (cluster.get("status") or {}).get("conditions") or ()
    failure = next((item for item in conditions if item.get("type") == "ReplicaFailure"), None)
    if failure is None or failure.get("status") != "True":
        return None
    message = failure.get("message", "")
    if "exceeded quota" in message:
        text = f"a pod was refused: {message}. Raise the namespace's ResourceQuota, or lower what its Models ask for"
        return Obstacle(reason="QuotaExceeded", message=text, fits=True)
    text = f"KubeRay cannot make or remove pods: {message}. See `kubectl describe raycluster {_name(cluster)}`"
    return Obstacle(reason="PodsNotCreated", message=text, fits=True)


def head_trouble(cluster: Object, pods: Iterable[Object], now: dt.datetime) -> Obstacle:
    """Return what to say while the head of a cluster does not answer."""
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        if labels.get("ray.io/cluster") == _name(cluster) and labels.get("ray.io/node-type") == "head":
            obstacle = pod_trouble(pod, now)
            if obstacle is not None:
                return obstacle
    trouble = cluster_trouble(cluster)
    if trouble is not None:
        return trouble
    waited_s = _age_s(cluster["metadata"].get("creationTimestamp"), now)
    text = f"the head of RayCluster {_name(cluster)} is not ready yet"
    if waited_s >= PATIENCE_S:
        text += (
            f"; it has been waited for since {int(waited_s // 60)} min. Check that KubeRay's operator runs and watches "
            f"this namespace, and `kubectl describe raycluster {_name(cluster)}`"
        )
    return Obstacle(reason="ClusterNotReady", message=text, passing=waited_s < PATIENCE_S, fits=True)


def _name(cluster: Object) -> str:
    return str(cluster["metadata"]["name"])


def _states(status: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for part in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(part) or ():
            yield container.get("name", ""), container.get("state") or {}


def _age_s(since: str | None, now: dt.datetime) -> float:
    if since is None:
        return 0.0
    return (now - dt.datetime.fromisoformat(since)).total_seconds()
