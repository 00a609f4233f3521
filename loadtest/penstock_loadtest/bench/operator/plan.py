"""What the operator benchmark asks for: how many Models where, and which edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from penstock_kube.resources import MODELS, Key, Object

RUNS_ON = "nvidia-h100:1"
PRESET = "llama-3.1-8b"


class OperatorPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes and limits."""

    models: int = 1000
    namespaces: int = 50
    edits: int = 100
    edits_per_s: float = 10.0
    idle_s: float = 60.0
    """Length of the idle phase."""
    rounds: int = 1
    give_up_s: float = 420.0
    """Longest wait for all Models, and again for all edits."""
    bytecode: Path = Path("build/bench/operator-bytecode")
    """Where the operator's modules lie compiled."""


def namespace_name(index: int) -> str:
    """Return the name of a namespace."""
    return f"team-{index:03d}"


def keys(plan: OperatorPlan) -> list[Key]:
    """Return the Models, dealt to namespaces in turn; names differ over all of them, as public names must."""
    return [Key(namespace_name(index % plan.namespaces), f"model-{index:04d}") for index in range(plan.models)]


def manifest(key: Key) -> dict[str, Any]:
    """Return a Model that fits its accelerator."""
    return {
        "apiVersion": MODELS.api_version,
        "kind": MODELS.kind,
        "metadata": {"namespace": key.namespace, "name": key.name},
        "spec": {
            "preset": PRESET,
            "accelerator": RUNS_ON,
            "scaling": {"minReplicas": 1, "maxReplicas": 4},
            "drainTimeoutSeconds": 1,
        },
    }


def edited(index: int) -> tuple[str, dict[str, Any]]:
    """Return the kind of an edit and its merge patch: more replicas and another engine argument in turn."""
    if index % 2:
        return "engine_argument", {"spec": {"engine": {"args": ["--max-num-seqs=128"]}}}
    return "replicas", {"spec": {"scaling": {"minReplicas": 2}}}


def is_converged(model: Object) -> bool:
    """Say whether a Model's status speaks of its newest spec, all replicas are ready, and nothing is under way."""
    status = model.get("status") or {}
    generation = model["metadata"]["generation"]
    said = {one["type"]: one for one in status.get("conditions", ())}
    ready, progressing = said.get("Ready"), said.get("Progressing")
    return (
        status.get("observedGeneration") == generation
        and ready is not None
        and ready["status"] == "True"
        and (progressing is None or progressing["status"] != "True")
        and status.get("readyReplicas", 0) == status.get("replicas")
        and status.get("readyReplicas", 0) >= max(1, model["spec"].get("scaling", {}).get("minReplicas", 1))
    )
