"""A Model object as `ModelStatus`: what its status says when the operator cannot be asked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from penstock.control.status import Condition, ConditionType, ModelStatus
from penstock_kube.resources import Object

_HOLDS: Mapping[str, bool | None] = {"True": True, "False": False}
_KNOWN = frozenset(ConditionType)


def model_status(model: Object) -> ModelStatus:
    """Return what a Model object tells of itself; replicas and rates are not in it."""
    metadata, spec = model["metadata"], model.get("spec") or {}
    status = model.get("status") or {}
    load, cost = status.get("load") or {}, status.get("cost") or {}
    ready = int(status.get("readyReplicas", 0))
    kv_percent, idle_percent = load.get("kvCachePercent"), cost.get("idlePercent")
    return ModelStatus(
        name=metadata["name"],
        namespace=metadata["namespace"],
        target=int(spec.get("replicas", 1)),
        ready=ready,
        starting=max(0, int(status.get("replicas", 0)) - ready),
        draining=0,
        replicas=(),
        conditions=tuple(_condition(one) for one in status.get("conditions", ()) if one.get("type") in _KNOWN),
        why=str(status.get("why", "")),
        kv_usage=None if kv_percent is None else int(kv_percent) / 100,
        queue=int(load.get("queuedRequests", 0)),
        ttft_p95_s=_seconds(load.get("timeToFirstToken")),
        usd_per_million_tokens=_number(cost.get("perMillionTokens")),
        idle_share=None if idle_percent is None else int(idle_percent) / 100,
        since_s=_unix_s(metadata.get("creationTimestamp")) or 0.0,
    )


def _condition(said: Mapping[str, Any]) -> Condition:
    return Condition(
        type=ConditionType(said["type"]),
        status=_HOLDS.get(str(said.get("status"))),
        reason=str(said.get("reason", "")),
        message=str(said.get("message", "")),
        since_s=_unix_s(said.get("lastTransitionTime")) or 0.0,
    )


def _seconds(text: str | None) -> float | None:
    """Read a duration as `kubectl get` shows it: `312ms`, `1.4s`."""
    if not text:
        return None
    if text.endswith("ms"):
        value = _number(text[:-2])
        return None if value is None else value / 1000
    return _number(text.removesuffix("s"))


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _unix_s(text: str | None) -> float | None:
    try:
        return None if text is None else datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
