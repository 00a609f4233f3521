"""Pydantic's JSON Schema as the structural schema that an API server accepts.

What differs: no references and no unions, an integer-or-string in Kubernetes' own way, every list with its merge
strategy, every string, list and map with a bound (the API server estimates what a rule may cost from those bounds),
and defaults without nulls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_LONGEST_TEXT = 1024
_MOST_ENTRIES = 64
_KEPT = ("type", "enum", "pattern", "format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
_INT_OR_STRING = "x-kubernetes-int-or-string"

BOUNDS: Mapping[str, Mapping[str, int]] = {
    "AcceleratorClass.spec.vendor": {"maxLength": 63},
    "AcceleratorClass.spec.resourceName": {"maxLength": 317},
    "AcceleratorClass.spec.tolerations": {"maxItems": 32},
    "Model.spec.accelerator": {"maxLength": 258},
    "Model.spec.accelerators": {"maxItems": 16},
    "Model.spec.accelerators[].class": {"maxLength": 253},
    "Model.spec.accelerators[].minReplicas": {"maximum": 10_000},
    "Model.spec.accelerators[].maxReplicas": {"maximum": 10_000},
    "Model.spec.engine.args": {"maxItems": 256},
    "Model.spec.engine.args[]": {"maxLength": 4096},
    "Model.spec.env": {"maxItems": 128},
    "Model.spec.env[].value": {"maxLength": 32_768},
    "Model.spec.preset": {"maxLength": 253},
    "Model.spec.replicas": {"maximum": 10_000},
    "Model.spec.scaling.minReplicas": {"maximum": 10_000},
    "Model.spec.scaling.maxReplicas": {"maximum": 10_000},
    "Route.spec.backends": {"maxItems": 32},
    "Route.spec.backends[].model": {"maxLength": 63},
    "Route.spec.fallbacks": {"maxItems": 16},
    "Route.spec.fallbacks[]": {"maxLength": 63},
    "Tenant.spec.allowedRoutes": {"maxItems": 256},
    "Tenant.spec.allowedRoutes[]": {"maxLength": 63},
}
"""Bounds that are tighter or wider than the general ones, by field."""

LIST_TYPES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "AcceleratorClass.spec.tolerations": ("atomic", ()),
    "Model.spec.accelerators": ("map", ("class", "count", "purchase")),
    "Model.spec.adapters": ("map", ("name",)),
    "Model.spec.engine.args": ("atomic", ()),
    "Model.spec.env": ("map", ("name",)),
    "Route.spec.backends": ("map", ("model",)),
    "Route.spec.fallbacks": ("atomic", ()),
    "Tenant.spec.allowedRoutes": ("set", ()),
    "Tenant.spec.keys": ("map", ("name",)),
}
"""How server-side apply merges each list, and what tells entries of a map apart: the API server refuses repeats."""

OPEN_OBJECTS = frozenset({"Model.spec.podTemplate"})
"""Fields that keep what no schema of ours describes."""

WIDE_INTEGERS = frozenset({"Tenant.spec.tokensPerMinute"})
"""Integers that may outgrow 32 bits."""

_text = {"type": "string", "maxLength": _LONGEST_TEXT}
TOLERATION: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "key": {**_text, "description": "Taint key; every taint when left out, with the operator Exists."},
        "operator": {
            "type": "string",
            "enum": ["Exists", "Equal"],
            "description": "How the value is compared; Equal when left out.",
        },
        "value": {**_text, "description": "Taint value, for the operator Equal."},
        "effect": {
            "type": "string",
            "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
            "description": "Taint effect; all effects when left out.",
        },
        "tolerationSeconds": {
            "type": "integer",
            "format": "int64",
            "description": "How long a NoExecute taint is borne, in seconds; for ever when left out.",
        },
    },
}
"""Kubernetes' own Toleration, which the resource type leaves open."""

_FOREIGN: Mapping[str, Mapping[str, Any]] = {"AcceleratorClass.spec.tolerations[]": TOLERATION}


def structural_schema(kind: str, field: str, model: type[BaseModel]) -> dict[str, Any]:
    """Return the structural schema of one part of a resource.

    Args:
        kind: kind of the resource.
        field: the part's field: `spec`.
        model: the part's type.
    """
    document = model.model_json_schema(by_alias=True, mode="validation")
    return _Converter(document.get("$defs", {})).convert(document, f"{kind}.{field}")


class _Converter:
    """Converts one document; paths are as in the tables above."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def convert(self, source: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Return the structural form of a schema."""
        schema = self._flat(source)
        if path in _FOREIGN:
            return dict(_FOREIGN[path])
        made = {name: schema[name] for name in ("description", *_KEPT) if name in schema}
        if "description" in made:
            made["description"] = " ".join(made["description"].split())  # lines are broken by whoever shows it
        if "const" in schema:
            made["enum"] = [schema["const"]]
        if schema.get(_INT_OR_STRING):
            made |= _int_or_string(schema)
        match made.get("type"):
            case "object":
                made |= self._object(schema, path)
            case "array":
                made |= self._array(schema, path)
            case "string" if not {"enum", "format"} & made.keys():
                made.setdefault("maxLength", _LONGEST_TEXT)
            case "integer":
                made["format"] = "int64" if path in WIDE_INTEGERS else "int32"
        made |= BOUNDS.get(path, {})
        default = _without_nulls(schema.get("default"))
        if default not in (None, [], {}):
            made["default"] = default
        return made

    def _flat(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return a schema with its reference resolved and its `null` alternative dropped; own words go first."""
        own = {name: value for name, value in schema.items() if name not in ("$ref", "anyOf")}
        if "$ref" in schema:
            return {**self._flat(self._definitions[schema["$ref"].rsplit("/", 1)[1]]), **own}
        if schema.get(_INT_OR_STRING):
            return dict(schema)
        others = [branch for branch in schema.get("anyOf", []) if branch.get("type") != "null"]
        if len(others) > 1:
            raise ValueError(f"a union has no structural form: {schema}")
        return {**self._flat(others[0]), **own} if others else own

    def _object(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        if path in OPEN_OBJECTS:
            return {"x-kubernetes-preserve-unknown-fields": True}
        if "properties" not in schema:
            values = self.convert(schema["additionalProperties"], f"{path}{{}}")
            return {"additionalProperties": values, "maxProperties": _MOST_ENTRIES}
        made: dict[str, Any] = {
            "properties": {name: self.convert(value, f"{path}.{name}") for name, value in schema["properties"].items()}
        }
        if schema.get("required"):
            made["required"] = list(schema["required"])
        return made

    def _array(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        merge, keys = LIST_TYPES[path]
        made: dict[str, Any] = {
            "items": self.convert(schema["items"], f"{path}[]"),
            "maxItems": _MOST_ENTRIES,
            "x-kubernetes-list-type": merge,
        }
        if keys:
            made["x-kubernetes-list-map-keys"] = list(keys)
        return made


def _int_or_string(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return Kubernetes' form: bounds of both branches stand beside the fixed pair of types, each minding its own."""
    merged: dict[str, Any] = {"maxLength": 64}
    for branch in schema["anyOf"]:
        merged |= {name: value for name, value in branch.items() if name in ("pattern", "minimum")}
    return {**merged, "anyOf": [{"type": "integer"}, {"type": "string"}], _INT_OR_STRING: True}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return value
