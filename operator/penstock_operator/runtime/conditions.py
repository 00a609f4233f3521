"""`status.conditions`: what is true of an object now, since when, and as of which of its generations."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from penstock_kube.clock import timestamp

Status = Literal["True", "False", "Unknown"]

_REASON = re.compile(r"[A-Z][A-Za-z0-9]*")
_LONGEST_MESSAGE = 32768


@dataclass(frozen=True, slots=True)
class Condition:
    """One observation."""

    type: str
    """An adjective or past participle: `Ready`, `Degraded`."""
    status: Status
    reason: str
    """Why, as one CamelCase word that programs may compare."""
    message: str = ""
    """Why and what to do, for people."""

    def __post_init__(self) -> None:
        if _REASON.fullmatch(self.reason) is None:
            raise ValueError(f"the reason {self.reason!r} of {self.type} is not one CamelCase word such as NoReplicas")


def merge_conditions(
    before: Iterable[Mapping[str, Any]], observed: Iterable[Condition], *, generation: int, now: dt.datetime
) -> list[dict[str, Any]]:
    """Return the conditions to write.

    Args:
        before: the conditions as they stand in the object's status.
        observed: all conditions that this controller owns; those it does not name are dropped.
        generation: `metadata.generation` of the object that was looked at.
        now: time of the observation. It is written only where a status flips: an unchanged world writes nothing.
    """
    known = {condition["type"]: condition for condition in before}
    merged = []
    for condition in observed:
        last = known.get(condition.type, {})
        flipped = last.get("status") != condition.status
        merged.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message[:_LONGEST_MESSAGE],
                "observedGeneration": generation,
                "lastTransitionTime": timestamp(now) if flipped else last["lastTransitionTime"],
            }
        )
    return sorted(merged, key=lambda condition: str(condition["type"]))


def find_condition(obj: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """Return an object's condition of one type, or None when it has none."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == kind), None)


def is_true(obj: Mapping[str, Any], kind: str) -> bool:
    """Return whether a condition holds for the object as it is now, not for an earlier generation of it."""
    condition = find_condition(obj, kind)
    current = obj["metadata"].get("generation", 0)
    return condition is not None and condition["status"] == "True" and condition.get("observedGeneration") == current
