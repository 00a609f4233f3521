"""Whether a replica fits this machine: enough processors or GPUs, and enough memory by the catalog's arithmetic."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.model import Model, Placement
from penstock.api.source import parse_source
from penstock.catalog import ConfigError, Geometry, find, from_config, weights_uri
from penstock.control.conditions import Obstacle
from penstock.control.fit import too_large

_ENGINES_PER_CORE = 2
_LEAST_CPUS = 4
"""Ray counts processors and never shares one; engines on one machine take turns, so it is told of more than there are:
room for a second replica, or for a new revision beside the old one, on a laptop."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What Ray is told it may hand out."""

    cpus: int
    gpus: int

    @classmethod
    def here(cls, cpus: int | None = None) -> Machine:
        """Return this machine, with the number of processors given or a multiple of those there are."""
        cores = len(os.sched_getaffinity(0))
        return cls(cpus=cpus or max(_LEAST_CPUS, cores * _ENGINES_PER_CORE), gpus=_count_gpus())


def misfit(
    model: Model, placement: Placement, classes: Mapping[str, AcceleratorClass], machine: Machine
) -> Obstacle | None:
    """Return why a replica of the model cannot run here, or None when it can, as far as is known.

    Raises:
        ValueError: an engine argument that sizes memory is impossible.
    """
    accelerator = classes[placement.accelerator_class]
    text = _too_many(placement, accelerator, machine)
    if text is not None:
        return Obstacle(reason="DoesNotFit", message=text)
    return too_large(model, placement, classes, _geometry(model))


def _too_many(placement: Placement, accelerator: AcceleratorClass, machine: Machine) -> str | None:
    asked = placement.count
    where = f"spec.accelerator: {accelerator.name}:{asked}"
    if accelerator.is_cpu and asked > machine.cpus:
        return f"{where} asks for {asked} processors and Ray has {machine.cpus} to give; ask for fewer, or raise --cpus"
    if not accelerator.is_cpu and asked > machine.gpus:
        return (
            f"{where} asks for {asked} GPUs and this machine has {machine.gpus}; use a class that is here, "
            "such as cpu:1, or a machine with GPUs"
        )
    return None


def _geometry(model: Model) -> Geometry | None:
    """Return the model's shape, from the catalog or from its folder, or None when nobody knows it before it loads."""
    entry = find(model)
    if entry is not None:
        return entry.geometry
    source = parse_source(weights_uri(model))
    if source.scheme != "file":
        return None
    try:
        return from_config(json.loads((Path(source.location) / "config.json").read_bytes()))
    except (OSError, json.JSONDecodeError, ConfigError):
        return None


def _count_gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in {"", "-1"}])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
