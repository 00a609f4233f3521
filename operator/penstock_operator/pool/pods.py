"""Pod templates of heads and workers, which pass the Pod Security level `restricted`. Pure."""

from __future__ import annotations

from typing import Any, Final

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.model import Model, Placement
from penstock.api.source import parse_source
from penstock_operator.pool.merge import merged
from penstock_operator.pool.names import ENGINE_CONTAINER, HEAD_CONTAINER, MANAGED
from penstock_operator.settings import RayOptions

CACHE_PATH: Final = "/var/cache/penstock"
PVC_PATH: Final = "/mnt/penstock/pvc"
"""Where the engine looks for claims (`penstock_engine.weights.PVC_ROOT`)."""
_USER = 65532
"""User and group of the engine image; volumes are made writable for the group."""
_CACHE = "cache"
_END_S = 30
"""How long Ray may take to end once the requests have, in seconds."""
_RAY_ENVIRONMENT: Final = {
    # Gateways talk to replicas, each on a port of its own, and to no proxy between.
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
    # Serve keeps what the task that built an application returned, 120 kB. Above Ray's limit of 100 kB it lies in the
    # object store of the worker that ran the task, and Ray's autoscaler never takes a worker with objects for idle.
    "RAY_max_direct_call_object_size": "1000000",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
}
CONTAINER_SECURITY: Final = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
_POD_SECURITY: Final = {
    "runAsNonRoot": True,
    "fsGroup": _USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}


def head_template(options: RayOptions) -> dict[str, Any]:
    """Return the pod template of heads: Ray's control plane, without engines or accelerators."""
    container = {
        "name": HEAD_CONTAINER,
        "image": options.image,
        "imagePullPolicy": options.image_pull_policy,
        "env": _env(_RAY_ENVIRONMENT),
        "resources": {
            "requests": {"cpu": options.head_cpu, "memory": options.head_memory},
            "limits": {"memory": options.head_memory},
        },
        "securityContext": CONTAINER_SECURITY,
    }
    return {"metadata": {"labels": dict(MANAGED)}, "spec": _pod(options, [container])}


def worker_template(
    model: Model, placement: Placement, accelerator: AcceleratorClass, options: RayOptions
) -> dict[str, Any]:
    """Return the pod template of a worker that holds one replica, the Model's own template merged over it."""
    volumes, mounts = _volumes(model, options)
    container = {
        "name": ENGINE_CONTAINER,
        "image": model.spec.engine.image or options.image,
        "imagePullPolicy": options.image_pull_policy,
        "env": _token(model)
        + _env(_RAY_ENVIRONMENT | {"HF_HOME": f"{CACHE_PATH}/huggingface", "VLLM_CACHE_ROOT": f"{CACHE_PATH}/vllm"}),
        "resources": _resources(placement, accelerator),
        "volumeMounts": mounts,
        "lifecycle": {"preStop": {"exec": {"command": _prestop(model)}}},
        "securityContext": CONTAINER_SECURITY,
    }
    spec: dict[str, Any] = {
        **_pod(options, [container]),
        "automountServiceAccountToken": False,
        "volumes": volumes,
        "tolerations": [dict(toleration) for toleration in accelerator.spec.tolerations],
        "terminationGracePeriodSeconds": model.spec.drain_timeout_seconds + _END_S,
    }
    if accelerator.spec.node_selector:
        spec["nodeSelector"] = dict(accelerator.spec.node_selector)
    template = merged({"metadata": {"labels": dict(MANAGED)}, "spec": spec}, model.spec.pod_template)
    # Ray's autoscaler replaces pods; the kubelet must not start their containers anew.
    return merged(template, {"metadata": {"labels": dict(MANAGED)}, "spec": {"restartPolicy": "Never"}})


def claims_of(model: Model) -> tuple[str, ...]:
    """Return the PersistentVolumeClaims that a Model's weights are on."""
    spec = model.spec
    uris = [spec.source, *(adapter.source for adapter in spec.adapters)]
    if spec.speculative is not None:
        uris.append(spec.speculative.model)
    sources = [parse_source(uri) for uri in uris if uri is not None]
    names = {source.location.partition("/")[0] for source in sources if source.scheme == "pvc"}
    return tuple(sorted(names))


def _pod(options: RayOptions, containers: list[dict[str, Any]]) -> dict[str, Any]:
    secrets = [{"name": name} for name in options.image_pull_secrets]
    return {
        "containers": containers,
        "securityContext": dict(_POD_SECURITY),
        "enableServiceLinks": False,
        **({"imagePullSecrets": secrets} if secrets else {}),
    }


def _env(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in sorted(values.items())]


def _prestop(model: Model) -> list[str]:
    """Return what the kubelet runs before it stops a worker: it waits for the requests that its replica has."""
    within = ["--engine", model.spec.engine.name.lower(), "--within", str(model.spec.drain_timeout_seconds)]
    return ["python", "-m", "penstock_engine.prestop", *within]


def _token(model: Model) -> list[dict[str, Any]]:
    reference = model.spec.source_secret_ref
    if reference is None:
        return []
    source = {"secretKeyRef": {"name": reference.name, "key": reference.key}}
    return [{"name": "HF_TOKEN", "valueFrom": source}]


def _resources(placement: Placement, accelerator: AcceleratorClass) -> dict[str, Any]:
    count = placement.count
    if accelerator.is_cpu:
        return {"requests": {"cpu": str(count), "memory": "4Gi"}}
    # Host memory holds weights while they load, about as much as goes to the accelerators of small models.
    requests = {"cpu": str(1 + count), "memory": f"{4 + 4 * count}Gi"}
    return {"requests": requests, "limits": {accelerator.spec.resource_name: str(count)}}


def _volumes(model: Model, options: RayOptions) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    cache: dict[str, Any] = {"name": _CACHE}
    if options.cache_claim is not None:
        cache["persistentVolumeClaim"] = {"claimName": options.cache_claim}
    elif options.cache_host_path is not None:
        cache["hostPath"] = {"path": options.cache_host_path, "type": "DirectoryOrCreate"}
    else:
        cache["emptyDir"] = {}
    volumes = [cache]
    mounts: list[dict[str, Any]] = [{"name": _CACHE, "mountPath": CACHE_PATH}]
    for index, claim in enumerate(claims_of(model)):
        name = f"claim-{index}"
        source: dict[str, Any] = {"claimName": claim, "readOnly": True}
        volumes.append({"name": name, "persistentVolumeClaim": source})
        mounts.append({"name": name, "mountPath": f"{PVC_PATH}/{claim}", "readOnly": True})
    return volumes, mounts
