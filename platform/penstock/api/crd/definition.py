"""One CustomResourceDefinition for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import yaml
from pydantic import BaseModel

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.crd.rules import add_rules
from penstock.api.crd.schema import structural_schema
from penstock.api.crd.status import COLUMNS, status_schema
from penstock.api.meta import GROUP, VERSION, Resource
from penstock.api.model import Model
from penstock.api.route import Route
from penstock.api.tenant import Tenant

_HEADER = "# Made by `penstock crds`: edit the resource types and run `penstock crds --output manifests/crds`.\n"


class _Names(NamedTuple):
    """What a kind is called."""

    resource: type[Resource]
    plural: str
    short: str


CRD_KINDS: Mapping[str, _Names] = MappingProxyType(
    {
        "AcceleratorClass": _Names(AcceleratorClass, "acceleratorclasses", "paccel"),
        "Model": _Names(Model, "models", "pmodel"),
        "Route": _Names(Route, "routes", "proute"),
        "Tenant": _Names(Tenant, "tenants", "ptenant"),
    }
)
"""Every kind of the group, by name. Short names carry a `p`: other groups have models and routes too."""

_SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def custom_resource_definition(kind: str) -> dict[str, Any]:
    """Return the CustomResourceDefinition of one of `CRD_KINDS`, as JSON data."""
    resource, plural, short = CRD_KINDS[kind]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _schema(kind, resource)},
        "subresources": {"status": {}} | ({"scale": _SCALE} if kind == "Model" else {}),
        "additionalPrinterColumns": [column.as_schema() for column in COLUMNS[kind]],
    }
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "shortNames": [short],
        "categories": ["penstock"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": names,
            "scope": "Namespaced" if resource.NAMESPACED else "Cluster",
            "versions": [version],
        },
    }


def file_name(kind: str) -> str:
    """Return the name of the file that holds a kind's definition."""
    return f"{GROUP}_{CRD_KINDS[kind].plural}.yaml"


def render(kind: str) -> str:
    """Return a kind's definition as YAML, the same text each time."""
    text = yaml.dump(custom_resource_definition(kind), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return _HEADER + text


def _schema(kind: str, resource: type[Resource]) -> dict[str, Any]:
    spec_field = resource.model_fields["spec"]
    spec = structural_schema(kind, "spec", cast("type[BaseModel]", spec_field.annotation))
    spec["description"] = spec_field.description or spec["description"]
    schema = {
        "description": (resource.__doc__ or "").strip(),
        "type": "object",
        "properties": {
            "apiVersion": {"description": "Group and version of this form of the object.", "type": "string"},
            "kind": {"description": "Kind of the object.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status_schema(kind),
        },
    }
    if spec_field.is_required():
        schema["required"] = ["spec"]
    else:
        spec["default"] = {}
    add_rules(kind, schema)
    return schema


class _Dumper(yaml.SafeDumper):
    """Writes shared parts out each time, as people read them."""

    def ignore_aliases(self, data: Any) -> bool:
        """Say that nothing becomes an alias."""
        return True
