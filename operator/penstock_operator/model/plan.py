"""What is to be written of one Model now: finalizer, scale, status. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from penstock.api.model import Model
from penstock.api.scaling import ScalingMode
from penstock.control.status import ModelStatus
from penstock_kube.resources import Object
from penstock_operator.model.status import Body, body_of, holds, is_urgent
from penstock_operator.runtime.conditions import Condition
from penstock_operator.runtime.finalizers import has_finalizer, is_deleting

FINALIZER: Final = "penstock.dev/drain"
"""Keeps a deleted Model until its replicas have drained and ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """All that is known of one Model now."""

    obj: Object
    """As the API server has it."""
    model: Model | None
    """The same, parsed; None when this version cannot read it."""
    view: ModelStatus | None = None
    """What its pool saw; None before the first look and when nothing is left."""
    gone: bool = False
    """Whether nothing is left of it, as its pool says."""
    extra: Sequence[Condition] = ()
    """Conditions that its pool does not know of."""


@dataclass(frozen=True, slots=True)
class Written:
    """The status that was last written by this process."""

    body: Body
    at_s: float
    """On the monotonic clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """What is to be done, in this order."""

    add_finalizer: bool = False
    remove_finalizer: bool = False
    scale_to: int | None = None
    status: Body | None = None
    again_after_s: float | None = None
    """When a change that can wait is due."""


def plan(sight: Sight, written: Written | None, *, now: dt.datetime, now_s: float, period_s: float) -> ModelPlan:
    """Return what is to be written.

    Args:
        sight: What is known.
        written: The status last written by this process, if any.
        now: The time of day.
        now_s: The time on the monotonic clock.
        period_s: How often figures may change the status.
    """
    if is_deleting(sight.obj):
        if not has_finalizer(sight.obj, FINALIZER):
            return ModelPlan()
        if sight.gone:
            return ModelPlan(remove_finalizer=True)
    status, again_after_s = _status(sight, written, now, now_s, period_s)
    return ModelPlan(
        add_finalizer=not is_deleting(sight.obj) and not has_finalizer(sight.obj, FINALIZER),
        scale_to=_scale(sight),
        status=status,
        again_after_s=again_after_s,
    )


def _scale(sight: Sight) -> int | None:
    """Return what is to be written into `spec.replicas`, unless the pool has yet to see what stands there now."""
    view, model = sight.view, sight.model
    if view is None or model is None or is_deleting(sight.obj):
        return None
    if model.spec.scaling.mode is not ScalingMode.PRESSURE:
        return None
    if view.generation not in (0, sight.obj["metadata"].get("generation", 0)):
        return None
    return None if view.target == sight.obj["spec"].get("replicas") else view.target


def _status(
    sight: Sight, written: Written | None, now: dt.datetime, now_s: float, period_s: float
) -> tuple[Body | None, float | None]:
    """Return the status to write, or after how many seconds there may be one."""
    if sight.view is None:
        return None, None
    wanted = body_of(sight.obj, sight.view, sight.extra, now)
    actual = sight.obj.get("status") or {}
    if holds(actual, wanted) and (wanted == actual if written is None else wanted == written.body):
        return None, None
    if written is None or is_urgent(written.body, wanted) or is_urgent(actual, wanted):
        return wanted, None
    due_s = written.at_s + period_s - now_s
    return (wanted, None) if due_s <= 0 else (None, due_s)
