"""What a Model's `status` is to say, from what its pool saw. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Final

from penstock.control.status import ConditionType, ModelStatus
from penstock.routing.published import MODEL_LABEL
from penstock.scaling.snapshot import ReplicaPhase
from penstock_kube.resources import Object
from penstock_operator.runtime.conditions import Condition, Status, merge_conditions

Body = dict[str, Any]
"""`status` of a Model, all that we own of it."""

_WORDS: Final[Mapping[bool | None, Status]] = {True: "True", False: "False", None: "Unknown"}
_LONGEST_WHY = 253


def body_of(obj: Object, view: ModelStatus, extra: Iterable[Condition], now: dt.datetime) -> Body:
    """Return the status of a Model that its pool has seen.

    Args:
        obj: The Model; the conditions in its status keep the time at which they last flipped.
        view: What its pool saw.
        extra: Conditions that the pool does not know of; one of a type that it does know takes its place.
        now: The time.
    """
    generation = view.generation or int(obj["metadata"].get("generation") or 0)
    said = {item.type.value: Condition(item.type.value, _WORDS[item.status], item.reason, item.message)
            for item in view.conditions}  # fmt: skip
    said |= {item.type: item for item in extra}
    return {
        "observedGeneration": generation,
        "conditions": merge_conditions(_conditions(obj), said.values(), generation=generation, now=now),
        "ready": f"{view.ready}/{view.target}",
        "replicas": len(view.replicas),
        "readyReplicas": view.ready,
        "selector": f"{MODEL_LABEL}={view.name}",
        "variants": _variants(view),
        "load": _load(view, (obj.get("status") or {}).get("load") or {}),
        "cost": _cost(view),
        "why": _why(view, said),
    }


def holds(actual: Any, wanted: Any) -> bool:
    """Return whether a status has all that is wanted; what others have added to its lists and objects does not count.

    Args:
        actual: The status as the API server has it.
        wanted: All that we want of it.
    """
    if isinstance(wanted, Mapping):
        return isinstance(actual, Mapping) and all(holds(actual.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(actual, list):
            return not wanted and actual is None
        return all(any(holds(item, each) for item in actual) for each in wanted)
    same: bool = actual == wanted
    return same


def is_urgent(actual: Mapping[str, Any], wanted: Body) -> bool:
    """Return whether a change of the status cannot wait: a condition flips, or a replica comes or goes."""
    return _essence(actual) != _essence(wanted)


def _essence(status: Mapping[str, Any]) -> tuple[object, ...]:
    conditions = status.get("conditions") or []
    return (
        status.get("ready"),
        status.get("observedGeneration"),
        {
            # The steps of a start follow each other fast: only trouble tells at once that it has become another.
            (item["type"], item["status"], item["reason"] if item["type"] == ConditionType.DEGRADED else "")
            for item in conditions
        },
    )


def _conditions(obj: Object) -> list[Mapping[str, Any]]:
    return list((obj.get("status") or {}).get("conditions") or [])


def _variants(view: ModelStatus) -> list[dict[str, Any]]:
    variants: dict[str, dict[str, Any]] = {}
    for replica in view.replicas:
        entry = variants.setdefault(replica.variant, {"name": replica.variant, "replicas": 0, "readyReplicas": 0})
        entry["replicas"] += 1
        entry["readyReplicas"] += replica.state is ReplicaPhase.READY
        if replica.accelerator_class:
            entry["class"] = replica.accelerator_class
        if replica.purchase:
            entry["purchase"] = replica.purchase
    return [variants[name] for name in sorted(variants)]


def _load(view: ModelStatus, before: Mapping[str, Any]) -> dict[str, Any]:
    load: dict[str, Any] = {"queuedRequests": view.queue}
    used_percent = None if view.kv_usage is None else max(0, round(100 * view.kv_usage))
    if used_percent or (used_percent == 0 and "kvCachePercent" in before):
        # Each model that comes up would be written once more only to say that its cache is empty.
        load["kvCachePercent"] = used_percent
    if view.ttft_p95_s is not None:
        load["timeToFirstToken"] = duration(view.ttft_p95_s)
    return load


def _cost(view: ModelStatus) -> dict[str, Any]:
    cost: dict[str, Any] = {}
    if view.usd_per_million_tokens is not None:
        cost["perMillionTokens"] = money(view.usd_per_million_tokens)
    if view.idle_share is not None:
        cost["idlePercent"] = max(0, round(100 * view.idle_share))
    return cost


def _why(view: ModelStatus, said: Mapping[str, Condition]) -> str:
    ready = said.get("Ready")
    why = view.why if ready is None or ready.status == "True" else ready.reason
    return why[:_LONGEST_WHY]


def duration(seconds: float) -> str:
    """Return a latency in two digits with its unit: 310ms, 1.3s, 12s."""
    if seconds < 0.995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.0f}ms" if milliseconds < 99.5 else f"{round(milliseconds, -1):.0f}ms"
    return f"{seconds:.1f}s" if seconds < 9.95 else f"{seconds:.0f}s"


def money(usd: float) -> str:
    """Return dollars to the cent, and smaller amounts to two digits: 12.34, 0.42, 0.0042."""
    return f"{usd:.2f}" if usd >= 0.1 or not usd else f"{usd:.2g}" if usd >= 0.0001 else f"{usd:.6f}"
