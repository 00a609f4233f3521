"""From a Model to the applications that its pool gives to Serve, or to the obstacle in the way. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.model import Model, Placement, Task
from penstock.api.source import parse_source
from penstock.catalog import engine_limits, find, weights_uri
from penstock.control.conditions import Obstacle
from penstock.control.fit import too_large, unknown_class
from penstock.control.prepared import Prepared
from penstock.engines.registry import UnknownEngineError, get_engine
from penstock.serve.applications import Application, compile_application
from penstock_operator.settings import RayOptions

NodeLabels = Callable[[Model, Placement, AcceleratorClass], Mapping[str, str]]
"""Returns the Ray labels of the worker group that a placement's replicas run on. They are part of the revision, so
that another group (another image, mount or node selector) is another application beside the old one."""

_CLASS_REMEDY = "create one, as `kubectl get acceleratorclasses` shows them"


def prepare(
    model: Model,
    classes: Mapping[str, AcceleratorClass],
    options: RayOptions,
    *,
    labels: NodeLabels,
    name_taken: str | None = None,
) -> Prepared:
    """Return a Model's applications, one for each placement in their order, or what is in the way of them.

    Each is named `MODEL--CLASS--REVISION`, the revision being eight hex digits over all that calls for new replicas
    when it changes: an edit that is taken back comes to the old name again.

    Args:
        model: The Model.
        classes: All AcceleratorClasses, by name.
        options: The platform's engine image, and what is in it.
        labels: Where each placement's replicas run.
        name_taken: Why an older object has a public name of this Model, if one has.
    """
    obstacle = _obstacle(model, classes, options, name_taken)
    if obstacle is not None:
        return Prepared(model=model, obstacle=obstacle)
    try:
        weights, engine = _weights(model), get_engine(model.spec.engine.name.lower())
        applications = tuple(
            _placed(
                compile_application(model, placement, accelerator, engine, weights),
                labels(model, placement, accelerator),
            )
            for placement in model.placements
            for accelerator in [classes[placement.accelerator_class]]
        )
    except ValueError as error:
        return Prepared(model=model, obstacle=Obstacle(reason="Invalid", message=str(error)))
    return Prepared(model=model, applications=applications)


class Preparations:
    """Prepares each Model once for as long as what it follows from stays the same object: remedies take many trials."""

    def __init__(self, options: RayOptions, labels: NodeLabels) -> None:
        self._options = options
        self._labels = labels
        self._known: dict[tuple[str, str], tuple[Model, Mapping[str, AcceleratorClass], str | None, Prepared]] = {}

    def prepare(
        self, model: Model, classes: Mapping[str, AcceleratorClass], *, name_taken: str | None = None
    ) -> Prepared:
        """Return what `prepare` makes of a Model.

        Args:
            model: The Model, one object for each generation of it (`Typed`).
            classes: All AcceleratorClasses, in one mapping for as long as none of them changes.
            name_taken: As for `prepare`.
        """
        key = (model.namespace, model.name)
        known = self._known.get(key)
        if known is not None and known[0] is model and known[1] is classes and known[2] == name_taken:
            return known[3]
        prepared = prepare(model, classes, self._options, labels=self._labels, name_taken=name_taken)
        self._known[key] = (model, classes, name_taken, prepared)
        return prepared

    def forget(self, namespace: str, name: str) -> None:
        """Drop what is kept of a Model that is gone."""
        self._known.pop((namespace, name), None)


def _obstacle(
    model: Model, classes: Mapping[str, AcceleratorClass], options: RayOptions, name_taken: str | None
) -> Obstacle | None:
    if name_taken is not None:
        return Obstacle(reason="NameTaken", message=name_taken)
    try:
        return _wrong_engine(model, options) or _wrong_weights(model) or _wrong_placement(model, classes)
    except ValueError as error:
        return Obstacle(reason="Invalid", message=str(error))


def _wrong_engine(model: Model, options: RayOptions) -> Obstacle | None:
    asked = model.spec.engine
    try:
        engine = get_engine(asked.name.lower())
    except UnknownEngineError as error:
        return Obstacle(reason="UnknownEngine", message=f"spec.engine.name: {error}")
    if asked.version is None or asked.image is not None or asked.version == options.engine_version:
        return None
    text = (
        f"spec.engine.version: {asked.version!r} is not the platform's {engine.name} {options.engine_version}; remove "
        "it, or give spec.engine.image an image with that version"
    )
    return Obstacle(reason="UnknownEngineVersion", message=text)


def _wrong_weights(model: Model) -> Obstacle | None:
    try:
        source = parse_source(weights_uri(model))
    except LookupError as error:
        return Obstacle(reason="UnknownPreset", message=f"spec.preset: {error}")
    if source.scheme == "oci":
        remedy = "mount the image by spec.podTemplate and give its folder as file://, or copy it to a claim for pvc://"
        return Obstacle(
            reason="UnsupportedSource", message=f"spec.source: {source}: engines cannot load from an image; {remedy}"
        )
    if source.is_relative:
        text = f"spec.source: {source} is relative, and a pod has no manifest beside it; give an absolute path"
        return Obstacle(reason="UnsupportedSource", message=text)
    return None


def _wrong_placement(model: Model, classes: Mapping[str, AcceleratorClass]) -> Obstacle | None:
    engine_limits(model.spec.engine.args)  # refuses what fields are for, even where nobody knows the model's shape
    entry = find(model)
    geometry = None if entry is None else entry.geometry
    for placement in model.placements:
        found = (
            unknown_class(placement, classes, _CLASS_REMEDY)
            or _without_price(placement, classes[placement.accelerator_class])
            or too_large(model, placement, classes, geometry)
        )
        if found is not None:
            return found
    return None


def _without_price(placement: Placement, accelerator: AcceleratorClass) -> Obstacle | None:
    try:
        accelerator.usd_per_hour(placement.purchase)
    except ValueError as error:
        return Obstacle(reason="PriceNotFound", message=str(error))
    return None


def _weights(model: Model) -> str:
    """Return the URI that `penstock_engine.weights` resolves inside the replica."""
    uri = weights_uri(model)
    if parse_source(uri).scheme == "tiny":
        return "tiny://llama-embed" if model.spec.task is Task.EMBED else "tiny://llama"
    return uri


def _placed(application: Application, labels: Mapping[str, str]) -> Application:
    """Return an application with its place, and named by its revision."""
    placed = msgspec.structs.replace(application, labels=labels)
    return msgspec.structs.replace(placed, name=f"{placed.name}--{placed.revision}")
