"""The catalog's data files as objects: AcceleratorClasses and model presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import yaml

from penstock.api import AcceleratorClass, Model, Purchase
from penstock.api.explain import suggest
from penstock.catalog.geometry import Experts, Geometry, LatentAttention, Precision, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogModel:
    """One preset."""

    name: str
    uri: str
    """Where its weights come from, as `Model.spec.source` would have it."""
    stated_parameters: int
    """Parameters as its publisher states them."""
    geometry: Geometry
    source: str
    """Where the geometry was read."""
    verified: bool
    """Whether the geometry was checked against that source."""


def _read(name: str) -> Mapping[str, Any]:
    data: Mapping[str, Any] = yaml.safe_load(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))
    return data


@cache
def accelerator_classes() -> tuple[AcceleratorClass, ...]:
    """Return the AcceleratorClasses that are there without being written down; those of a manifest go before them."""
    return tuple(_accelerator_class(name, entry) for name, entry in _read("accelerators.yaml").items())


@cache
def models() -> Mapping[str, CatalogModel]:
    """Return the presets by name."""
    return MappingProxyType({name: _model(name, entry) for name, entry in _read("models.yaml").items()})


def find(model: Model) -> CatalogModel | None:
    """Return the catalog's entry for a Model, by its preset or its hub repository, or None when it has none."""
    if model.spec.preset is not None:
        return models().get(model.spec.preset)
    wanted = (model.spec.source or "").partition("@")[0].lower()
    return next((entry for entry in models().values() if entry.uri.lower() == wanted), None)


def weights_uri(model: Model) -> str:
    """Return where a Model's weights come from, its preset resolved.

    Raises:
        LookupError: the catalog has no such preset.
    """
    if model.spec.source is not None:
        return model.spec.source
    entry = find(model)
    if entry is None:
        preset = str(model.spec.preset)
        raise LookupError(f"preset {preset!r} is not in the catalog: {suggest(preset, models())}")
    return entry.uri


def _accelerator_class(name: str, entry: Mapping[str, Any]) -> AcceleratorClass:
    spec = {key: value for key, value in entry.items() if key not in ("prices", "verified")}
    rows: dict[str, Mapping[str, Any]] = {}
    for row in entry["prices"]:
        rows.setdefault(row["purchase"], row)
    if demand := rows.get(Purchase.ON_DEMAND):
        spec["price"] = {"onDemandPerHour": demand["perHour"], "currency": demand["currency"]}
        spec["price"] |= {"source": demand["provider"], "date": demand["date"]}
        if spot := rows.get(Purchase.SPOT):
            spec["price"]["spotPerHour"] = spot["perHour"]
    return AcceleratorClass.model_validate({"metadata": {"name": name}, "spec": spec})


def _model(name: str, entry: Mapping[str, Any]) -> CatalogModel:
    geometry = Geometry(
        **entry["geometry"],
        experts=Experts(**entry["experts"]) if "experts" in entry else None,
        latent=LatentAttention(**entry["latent"]) if "latent" in entry else None,
        window=Window(**entry["window"]) if "window" in entry else None,
        native=Precision(entry.get("native", Precision.BF16)),
    )
    return CatalogModel(
        name=name,
        uri=entry.get("uri") or f"hf://{entry['hub']}",
        stated_parameters=round(entry["parameters"] * 1e9),
        geometry=geometry,
        source=entry["source"],
        verified=entry["verified"],
    )
