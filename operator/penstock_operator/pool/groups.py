"""Worker groups: pods of one kind, each with room for one replica of one variant of a Model. Pure.

A group's name holds the hash of its template. KubeRay neither rolls nor removes the pods of a group that is edited, so
none ever is: a change makes another group, and a rollout moves the Model there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from penstock.api.accelerator_class import AcceleratorClass, Purchase
from penstock.api.model import Model, Placement
from penstock.api.scaling import ScalingMode
from penstock.routing.published import GROUP_LABEL, MODEL_LABEL
from penstock.scaling.policy import replica_bounds
from penstock.serve.applications import ray_resources
from penstock_operator.pool.names import digest, slug
from penstock_operator.pool.pods import worker_template
from penstock_operator.settings import RayOptions

OBJECT_STORE_BYTES: Final = 200_000_000
"""Shared memory of each Ray node: Serve moves next to nothing through it, and Ray would take a third of the pod's."""


class WorkerGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One worker group of a RayCluster."""

    name: str
    model: str
    labels: Mapping[str, str]
    """Ray labels of its nodes, by which applications ask for it; also labels of its pods."""
    template: Mapping[str, Any]
    """Its `workerGroupSpec` but for counts, name and labels."""
    most: int
    """Pods that it may have."""


def worker_group(model: Model, placement: Placement, accelerator: AcceleratorClass, options: RayOptions) -> WorkerGroup:
    """Return the group that replicas on one of a Model's placements run in."""
    template = {
        "rayStartParams": _ray_params(placement, accelerator),
        "template": worker_template(model, placement, accelerator, options),
    }
    essence = [model.name, placement.accelerator_class, placement.count, placement.purchase.value, template]
    spot = "" if placement.purchase is Purchase.ON_DEMAND else f"-{placement.purchase.value.lower()}"
    name = f"{slug(placement.accelerator_class)}-{placement.count}{spot}-{digest(essence)}"
    return WorkerGroup(
        name=name,
        model=model.name,
        labels={GROUP_LABEL: name, MODEL_LABEL: model.name},
        template=template,
        most=_most(model, placement),
    )


def node_labels(group: WorkerGroup) -> dict[str, str]:
    """Return the labels that an application asks for so that its replicas run in a group."""
    return {GROUP_LABEL: group.name}


def _ray_params(placement: Placement, accelerator: AcceleratorClass) -> dict[str, str]:
    """Return what `ray start` is told: room for exactly one replica, and Ray's own names for what it is made of."""
    has = ray_resources(accelerator, placement.count)
    params = {"object-store-memory": str(OBJECT_STORE_BYTES), "num-cpus": f"{has.cpus:g}", "num-gpus": f"{has.gpus:g}"}
    if has.custom:
        params["resources"] = f"'{json.dumps(has.custom)}'"  # quoted for the shell that KubeRay starts Ray in
    return params


def _most(model: Model, placement: Placement) -> int:
    """Return how many pods a group may have: twice the replicas, since a rollout runs two revisions side by side."""
    if model.spec.scaling.mode is ScalingMode.EXTERNAL:
        # In powers of two, so that not every change of a count by somebody else writes the RayCluster anew.
        replicas = 1 << max(0, model.spec.replicas - 1).bit_length()
    else:
        replicas = replica_bounds(model)[1]
    if placement.max_replicas is not None:
        replicas = min(replicas, placement.max_replicas)
    return 2 * replicas
