"""What is worth an event on a Model: decisions with their price, rollouts, failures. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from penstock.control.status import Condition, ConditionType, ModelStatus
from penstock_kube.events import EventType
from penstock_kube.resources import Object

_ROLLOUT_REASONS = frozenset({"RollingOut", "Canary"})


class Notice(NamedTuple):
    """One event."""

    kind: EventType
    reason: str
    message: str


def notices(obj: Object, before: ModelStatus | None, after: ModelStatus) -> Iterator[Notice]:
    """Yield what has happened to a Model between two looks of its pool.

    Args:
        obj: The Model; its status says what was told before a first look.
        before: What its pool last saw; None at the first look of this process.
        after: What it sees now.
    """
    if before is not None and before.target != after.target:
        yield _scaled(before, after)
    known = _told(obj) if before is None else {item.type.value: _fact(item) for item in before.conditions}
    for item in after.conditions:
        last = known.get(item.type.value)
        if last == _fact(item):
            continue
        if item.type is ConditionType.DEGRADED and item.status:
            yield Notice("Warning", item.reason, item.message)
        elif item.type is ConditionType.PROGRESSING:
            if item.status and item.reason in _ROLLOUT_REASONS:
                yield Notice("Normal", item.reason, item.message)
            elif last is not None and last[1] in _ROLLOUT_REASONS:
                yield Notice("Normal", "RolledOut", "the new revision has all new requests")


def _scaled(before: ModelStatus, after: ModelStatus) -> Notice:
    reason = "ScaledUp" if after.target > before.target else "ScaledDown"
    message = f"{before.target} -> {after.target} replicas"
    decision = after.decision or {}
    if decision.get("target_after") == after.target:
        message += f": {decision.get('reason', '')} ({_dollars(decision)})"
    return Notice("Normal", reason, message)


def _dollars(decision: Mapping[str, Any]) -> str:
    def shown(name: str) -> str:
        return f"{float(decision.get(name) or 0):.2f}"

    return f"{shown('usd_per_hour_before')} -> {shown('usd_per_hour_after')} $/h"


def _fact(condition: Condition) -> tuple[str, str]:
    return {True: "True", False: "False", None: "Unknown"}[condition.status], condition.reason


def _told(obj: Object) -> dict[str, tuple[str, str]]:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return {item["type"]: (item["status"], item["reason"]) for item in conditions}
