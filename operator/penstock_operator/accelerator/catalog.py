"""The catalog's AcceleratorClasses in a cluster: created when missing, updated field by field, edits kept. Pure.

What was written last stands in an annotation, so that an edit can be told from an older release's figure: a field of
`spec` that still is as it was written follows the catalog, any other belongs to whoever changed or removed it. `price`
is one field in that sense: a price, its source and its day go together. A class without the annotation was made by
somebody else and is never touched. Server-side apply without force was the alternative: it would bring back what
somebody removed, since nobody owns a field that is not there, and give up the whole class for one price of one's own.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import ValidationError

from penstock.api.accelerator_class import AcceleratorClass, AcceleratorClassSpec
from penstock_kube.resources import Object

WRITTEN: Final = "penstock.dev/catalog"
"""Annotation with the spec as it was written last, as JSON."""


def new_object(entry: AcceleratorClass) -> dict[str, Any]:
    """Return the object to create for an entry of the catalog."""
    spec = _dump(entry.spec)
    return {"metadata": {"name": entry.name, "annotations": {WRITTEN: _text(spec)}}, "spec": spec}


def newer_figures(stored: Object, entry: AcceleratorClass) -> dict[str, Any] | None:
    """Return a merge patch with the catalog's newer figures, or None when there is nothing to write.

    Args:
        stored: the object as it is; the patch is for exactly this version of it.
        entry: the catalog's.
    """
    metadata = stored["metadata"]
    written = (metadata.get("annotations") or {}).get(WRITTEN)
    fresh = _dump(entry.spec)
    if written is None or written == _text(fresh):
        return None
    try:
        before = AcceleratorClassSpec.model_validate_json(written)
        now = AcceleratorClassSpec.model_validate_json(json.dumps(stored.get("spec")))
    except ValidationError:
        return None
    spec = {
        name: _replacing(stored["spec"].get(name), fresh.get(name))
        for field, info in AcceleratorClassSpec.model_fields.items()
        for name in [info.alias or field]
        if getattr(before, field) == getattr(now, field) != getattr(entry.spec, field)
    }
    if not spec:
        return None
    annotations = {WRITTEN: _text(fresh)}
    return {"metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": annotations}, "spec": spec}


def _replacing(old: Any, new: Any) -> Any:
    """Return what a merge patch has to say for a value to become another, nothing of the old one left in it."""
    if isinstance(old, dict) and isinstance(new, dict):
        return dict.fromkeys(old.keys() - new.keys()) | {key: _replacing(old.get(key), new[key]) for key in new}
    return new


def _dump(spec: AcceleratorClassSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _text(spec: dict[str, Any]) -> str:
    return json.dumps(spec, sort_keys=True, separators=(",", ":"))
