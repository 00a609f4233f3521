"""Models and what pools see of them, made short."""

from __future__ import annotations

from penstock.control.status import Condition, ConditionType, ModelStatus, ReplicaStatus
from penstock.scaling.snapshot import ReplicaPhase


def condition(kind, status, reason, message="", since_s=0.0):
    return Condition(type=ConditionType(kind), status=status, reason=reason, message=message, since_s=since_s)


def replica(name, state=ReplicaPhase.READY, variant="llama--cpu--abc"):
    return ReplicaStatus(
        id=name, variant=variant, state=state, since_s=0.0, accelerator_class="cpu", purchase="OnDemand"
    )


STEADY = (
    condition("Fits", True, "Fits"),
    condition("Ready", True, "ReplicasReady", "1 of 1 replicas answer"),
    condition("Progressing", False, "Settled"),
    condition("Degraded", False, "AsWanted"),
)


def view(target=1, ready=1, *, conditions=STEADY, **fields):
    body = {
        "name": "llama",
        "namespace": "team",
        "generation": 1,
        "target": target,
        "ready": ready,
        "starting": 0,
        "draining": 0,
        "replicas": tuple(replica(f"r{number}") for number in range(ready)),
        "conditions": conditions,
        "why": "MinReplicas",
        **fields,
    }
    return ModelStatus(**body)


def obj(*, status=None, finalizers=("penstock.dev/drain",), deleting=False, generation=1, version="7", **spec):
    metadata = {
        "name": "llama",
        "namespace": "team",
        "uid": "u",
        "generation": generation,
        "resourceVersion": version,
        "finalizers": list(finalizers),
    }
    if deleting:
        metadata["deletionTimestamp"] = "2026-11-24T00:00:00Z"
    made = {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "Model",
        "metadata": metadata,
        "spec": {"source": "hf://a/b", "accelerator": "nvidia-h100:1", "replicas": 1, **spec},
    }
    return made if status is None else {**made, "status": status}
