"""Writing status: our own fields, and only when one of them differs from what stands there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from penstock.api.crd.status import STATUSES
from penstock_kube.client import KubeClient
from penstock_kube.errors import NotFoundError
from penstock_kube.resources import Kind, Object, key_of
from penstock_operator.runtime.conditions import Condition, merge_conditions

_COMMON = frozenset({"conditions", "observedGeneration"})


async def write_status(
    client: KubeClient,
    kind: Kind,
    obj: Object,
    fields: Mapping[str, Any],
    conditions: Iterable[Condition],
    *,
    now: dt.datetime,
) -> bool:
    """Make an object's status say what was observed, and return whether that took a write.

    Args:
        client: makes the call.
        kind: one of our kinds.
        obj: the object as it was looked at; one that is gone by now is no error.
        fields: the kind's own fields, all of them; those that are None are absent.
        conditions: all of them.
        now: time of the observation.
    """
    status = obj.get("status") or {}
    generation = obj["metadata"].get("generation", 0)
    wanted = {
        **{name: value for name, value in fields.items() if value is not None},
        "conditions": merge_conditions(status.get("conditions") or (), conditions, generation=generation, now=now),
        "observedGeneration": generation,
    }
    ours = _COMMON | STATUSES[kind.kind].keys()
    if {name: value for name, value in status.items() if name in ours} == wanted:
        return False
    key = key_of(obj)
    metadata = {"name": key.name, **({"namespace": key.namespace} if key.namespace else {})}
    try:
        await client.apply(kind, {"metadata": metadata, "status": wanted}, subresource="status")
    except NotFoundError:
        return False
    return True
