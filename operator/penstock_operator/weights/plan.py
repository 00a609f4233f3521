"""Downloads of weights as Jobs: which there are to be, and what each says of the Models that wait for it. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from penstock.api.model import Model
from penstock.api.source import parse_source
from penstock.catalog import weights_uri
from penstock_kube.resources import Object
from penstock_operator.pool.names import MANAGED, digest
from penstock_operator.pool.pods import CACHE_PATH, CONTAINER_SECURITY
from penstock_operator.runtime.conditions import Condition
from penstock_operator.settings import RayOptions

WEIGHTS_LABEL: Final = "penstock.dev/weights"
"""Label of Jobs and their pods: the digest of what they download."""
CONDITION: Final = "WeightsReady"
PORT: Final = 8080
"""Where a pod tells its progress (`penstock_engine.fetch.PORT`)."""
RETRY_AFTER_S: Final = 600.0
"""Age of a failure from which on the Job is made anew."""
_CONTAINER: Final = "fetch"
_POINTLESS: Final = 3
"""Exit code of a download that trying again cannot mend (`penstock_engine.fetch.POINTLESS`)."""
_TRIES: Final = 6
_USER: Final = 65532


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a download is."""

    done_bytes: int
    total_bytes: int | None = None
    """None until the hub has said what there is."""


def source_of(model: Model) -> str | None:
    """Return what is to be downloaded for a Model, or None when its weights are read where they are."""
    try:
        uri = weights_uri(model)
        return uri if parse_source(uri).scheme == "hf" else None
    except (LookupError, ValueError):
        return None


def job_of(model: Model, options: RayOptions) -> dict[str, Any] | None:
    """Return the Job that downloads a Model's weights; None when there is nothing to download or nowhere to keep it.

    Models with the same source, token and image share one.
    """
    uri = source_of(model)
    if uri is None or options.cache_claim is None:
        return None
    image, token = model.spec.engine.image or options.image, model.spec.source_secret_ref
    essence = [uri, image, None if token is None else [token.name, token.key], options.cache_claim]
    mark = digest(essence)
    labels = {**MANAGED, WEIGHTS_LABEL: mark}
    environment: list[dict[str, Any]] = [{"name": "HF_HOME", "value": f"{CACHE_PATH}/huggingface"}]
    if token is not None:
        reference = {"secretKeyRef": {"name": token.name, "key": token.key}}
        environment.append({"name": "HF_TOKEN", "valueFrom": reference})
    container = {
        "name": _CONTAINER,
        "image": image,
        "imagePullPolicy": options.image_pull_policy,
        "command": ["python", "-m", "penstock_engine.fetch", uri, "--port", str(PORT)],
        "env": environment,
        "ports": [{"name": "progress", "containerPort": PORT}],
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}},
        "volumeMounts": [{"name": "cache", "mountPath": CACHE_PATH}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
        "securityContext": {**CONTAINER_SECURITY, "readOnlyRootFilesystem": True},
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "imagePullSecrets": [{"name": name} for name in options.image_pull_secrets],
        "securityContext": {
            "runAsNonRoot": True,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "cache", "persistentVolumeClaim": {"claimName": options.cache_claim}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    pointless = {"containerName": _CONTAINER, "operator": "In", "values": [_POINTLESS]}
    return {
        "metadata": {
            "namespace": model.namespace,
            "name": f"penstock-fetch-{mark}",
            "labels": labels,
            "annotations": {"penstock.dev/source": uri},
        },
        "spec": {
            "backoffLimit": _TRIES,
            "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": pointless}]},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def name_of(job: Object) -> str:
    """Return a Job's name."""
    return str(job["metadata"]["name"])


def superfluous(jobs: Iterable[Object], wanted: Iterable[str], now: dt.datetime) -> list[Object]:
    """Return the Jobs to delete: those that no Model wants, and failed ones that are due for another try."""
    names = set(wanted)
    return [
        job
        for job in jobs
        if "deletionTimestamp" not in job["metadata"]
        and (name_of(job) not in names or (_failed_s(job, now) or 0.0) >= RETRY_AFTER_S)
    ]


def is_running(job: Object) -> bool:
    """Return whether a Job has yet to end."""
    return _ending(job) is None


def verdict(job: Object | None, pods: Iterable[Object], progress: Progress | None) -> Condition:
    """Return what a download says of the Models that wait for it.

    Args:
        job: The download; None before the API server has it.
        pods: Its pods.
        progress: What its pod last told.
    """
    ending = None if job is None else _ending(job)
    if ending is not None and ending["type"] == "Complete":
        return Condition(CONDITION, "True", "Downloaded", "the cache holds them")
    if ending is not None:
        reason = _last_words(pods) or ending.get("message") or "the download failed"
        again = f"; tried once more after {RETRY_AFTER_S / 60:.0f} min, or at once when the Job is deleted"
        return Condition(CONDITION, "False", "DownloadFailed", f"{reason}{again}")
    if progress is None or progress.total_bytes is None:
        waits = next(filter(None, map(_waiting, pods)), "a pod starts")
        return Condition(CONDITION, "False", "Downloading", waits)
    return Condition(
        CONDITION, "False", "Downloading", f"{_giga(progress.done_bytes)} of {_giga(progress.total_bytes)} GB"
    )


def refusal(message: str) -> Condition:
    """Return what is said of the Models whose download the API server does not take.

    Args:
        message: The API server's.
    """
    text = f"the API server refused the Job: {message}; replicas download for themselves, and it is tried once more"
    return Condition(CONDITION, "False", "DownloadFailed", f"{text} after {RETRY_AFTER_S / 60:.0f} min")


def _giga(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f}"


def _ending(job: Object) -> Mapping[str, Any] | None:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return next(
        (item for item in conditions if item["type"] in {"Complete", "Failed"} and item["status"] == "True"), None
    )


def _failed_s(job: Object, now: dt.datetime) -> float | None:
    ending = _ending(job)
    if ending is None or ending["type"] != "Failed":
        return None
    return (now - dt.datetime.fromisoformat(ending["lastTransitionTime"])).total_seconds()


def _last_words(pods: Iterable[Object]) -> str:
    """Return what the newest pod that failed wrote as its termination message."""
    ended: list[tuple[str, str]] = []
    for pod in pods:
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            state = (container.get("state") or {}).get("terminated") or {}
            if state.get("message"):
                ended.append((str(state.get("finishedAt", "")), str(state["message"]).strip()))
    return max(ended, default=("", ""))[1]


def _waiting(pod: Object) -> str:
    """Return why a pod does not run, in the kubelet's and the scheduler's words."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        state = (container.get("state") or {}).get("waiting") or {}
        if state.get("message"):
            return f"pod {pod['metadata']['name']}: {state['message']}"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False" and condition.get("message"):
            return f"pod {pod['metadata']['name']} waits for a node: {condition['message']}"
    return ""
