"""Whether a model's replicas fit the accelerators it asks for, by the catalog's arithmetic. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.explain import suggest
from penstock.api.model import Model, Placement
from penstock.catalog import Geometry, assess
from penstock.control.conditions import Obstacle


def unknown_class(placement: Placement, classes: Mapping[str, AcceleratorClass], remedy: str) -> Obstacle | None:
    """Return the obstacle of a placement whose class is not there, or None.

    Args:
        placement: One of a model's.
        classes: Those there are, by name.
        remedy: What to do when none of them was meant.
    """
    name = placement.accelerator_class
    if name in classes:
        return None
    meant = suggest(name, sorted(classes)) if classes else "there is none at all"
    text = f"spec.accelerator: there is no AcceleratorClass {name!r}; {remedy} ({meant})"
    return Obstacle(reason="UnknownAcceleratorClass", message=text)


def too_large(
    model: Model, placement: Placement, classes: Mapping[str, AcceleratorClass], geometry: Geometry | None
) -> Obstacle | None:
    """Return why a replica's memory is too small on a placement, with the remedy, or None when it fits or nobody knows.

    Args:
        model: The model.
        placement: One of its placements, whose class is among `classes`.
        classes: All there are, by name: another one may be the remedy.
        geometry: The model's shape; None when nobody knows it before it loads.

    Raises:
        ValueError: an engine argument that sizes memory is impossible.
    """
    if geometry is None:
        return None
    fit = assess(model, geometry, placement, classes.values())
    if fit.problem is None:
        return None
    remedy = str(fit.remedies[0]) if fit.remedies else "use a larger accelerator class"
    return Obstacle(reason="DoesNotFit", message=f"{fit.problem}; {remedy} (`penstock plan` shows the memory)")
