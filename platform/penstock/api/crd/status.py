"""What the operator writes into `status`, and which of it `kubectl get` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Column(NamedTuple):
    """A column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False
    """Whether it needs `-o wide`."""

    def as_schema(self) -> dict[str, Any]:
        """Return the column as it stands in a CRD."""
        return {"name": self.name, "type": self.type, "jsonPath": self.path} | ({"priority": 1} if self.wide else {})


def _text(description: str, longest: int = 253) -> dict[str, Any]:
    return {"description": description, "type": "string", "maxLength": longest}


def _count(description: str) -> dict[str, Any]:
    return {"description": description, "type": "integer", "format": "int32", "minimum": 0}


def _object(description: str, **properties: Any) -> dict[str, Any]:
    return {"description": description, "type": "object", "properties": properties}


_CONDITION: Mapping[str, Any] = {
    **_object(
        "One observation.",
        type={**_text("What is observed, an adjective or participle: Ready.", 316), "minLength": 1},
        status={
            "description": "Whether it holds; Unknown when nobody could look.",
            "type": "string",
            "enum": ["True", "False", "Unknown"],
        },
        observedGeneration={
            "description": "Generation of the object that was looked at.",
            "type": "integer",
            "format": "int64",
            "minimum": 0,
        },
        lastTransitionTime={"description": "When the status last flipped.", "type": "string", "format": "date-time"},
        reason={
            **_text("Why, as one CamelCase word.", 1024),
            "minLength": 1,
            "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        },
        message=_text("Why and what to do, for people.", 32_768),
    ),
    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
}
_COMMON: Mapping[str, Any] = {
    "conditions": {
        "description": "Observations; Ready sums them up.",
        "type": "array",
        "maxItems": 16,
        "items": _CONDITION,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    },
    "observedGeneration": {
        "description": "Generation of the object that this status is about.",
        "type": "integer",
        "format": "int64",
        "minimum": 0,
    },
}
_VARIANT = {
    **_object(
        "Replicas on one accelerator class.",
        name=_text("Name of the variant: model and class."),
        **{"class": _text("AcceleratorClass that its replicas run on.")},
        purchase={"description": "How it is bought.", "type": "string", "enum": ["OnDemand", "Spot"]},
        replicas=_count("Replicas there are, those that start and drain among them."),
        readyReplicas=_count("Replicas that take requests."),
    ),
    "required": ["name"],
}
_DISCOVERED = {
    **_object(
        "A label of nodes.",
        label=_text("The label: nvidia.com/gpu.product.", 317),
        value=_text("Its value: NVIDIA-H100-80GB-HBM3.", 63),
        nodes=_count("Nodes that have it."),
    ),
    "required": ["label", "value", "nodes"],
}
_MODEL = {
    "replicas": _count("Replicas there are, those that start and drain among them."),
    "readyReplicas": _count("Replicas that take requests."),
    "ready": _text("Ready replicas of wanted ones, for kubectl get: 2/2.", 32),
    "selector": _text("Label selector of the replicas, for autoscalers that read the scale subresource.", 1024),
    "variants": {
        "description": "Replicas by accelerator class and engine revision.",
        "type": "array",
        "maxItems": 64,
        "items": _VARIANT,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    },
    "load": _object(
        "Load figures, rounded to the digits shown and written seldom; metrics have the rest.",
        kvCachePercent=_count("Key-value cache in use over all ready replicas, in percent."),
        queuedRequests=_count("Requests that wait for a replica or inside one."),
        timeToFirstToken=_text("95th percentile of the time to the first token, with its unit: 312ms.", 32),
    ),
    "cost": _object(
        "Cost figures of the last hour, rounded to the digits shown.",
        perMillionTokens=_text("US dollars for a million tokens, prompt and completion together: 0.42.", 32),
        idlePercent=_count("Share of the replicas' cost that no request used, in percent."),
    ),
    "why": _text("Why there are as many replicas as there are, in a word or two; penstock why has the whole record."),
}

STATUSES: Mapping[str, Mapping[str, Any]] = {
    "Model": _MODEL,
    "AcceleratorClass": {
        "nodes": _count("Nodes that the node selector matches, or that offer the resource when there is none."),
        "allocatable": _count("Accelerators on those nodes that pods of the class can have."),
        "discovered": {
            "description": "What feature discovery and clouds say of those nodes, most telling labels first.",
            "type": "array",
            "maxItems": 32,
            "items": _DISCOVERED,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["label", "value"],
        },
    },
    "Route": {
        "modelName": _text("Public name that clients give, defaulted.", 1024),
        "backends": _text("Backends with their shares, for kubectl get: llama=90%,llama-next=10%.", 4096),
    },
    "Tenant": {"keys": _count("Keys that were found in their Secrets and are valid.")},
}
"""Fields of each kind's status beside `conditions` and `observedGeneration`."""

_READY = '.status.conditions[?(@.type=="Ready")].'
_AGE = Column("Age", ".metadata.creationTimestamp", "date")

COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "Model": (
        Column("Ready", ".status.ready"),
        Column("KV%", ".status.load.kvCachePercent", "integer"),
        Column("Queue", ".status.load.queuedRequests", "integer"),
        Column("P95-TTFT", ".status.load.timeToFirstToken"),
        Column("$/MTOK", ".status.cost.perMillionTokens"),
        Column("Idle%", ".status.cost.idlePercent", "integer"),
        Column("Why", ".status.why"),
        _AGE,
        Column("Reason", f"{_READY}reason", wide=True),
        Column("Source", ".spec.source", wide=True),
        Column("Preset", ".spec.preset", wide=True),
    ),
    "AcceleratorClass": (
        Column("Vendor", ".spec.vendor"),
        Column("Memory", ".spec.memory"),
        Column("$/Hour", ".spec.price.onDemandPerHour"),
        Column("Spot-$/Hour", ".spec.price.spotPerHour"),
        Column("Nodes", ".status.nodes", "integer"),
        Column("Allocatable", ".status.allocatable", "integer"),
        Column("Why", f"{_READY}reason"),
        _AGE,
        Column("Resource", ".spec.resourceName", wide=True),
        Column("Price-Source", ".spec.price.source", wide=True),
    ),
    "Route": (
        Column("Ready", f"{_READY}status"),
        Column("Model", ".status.modelName"),
        Column("Backends", ".status.backends"),
        Column("Why", f"{_READY}reason"),
        _AGE,
    ),
    "Tenant": (
        Column("Ready", f"{_READY}status"),
        Column("Keys", ".status.keys", "integer"),
        Column("Req/Min", ".spec.requestsPerMinute", "integer"),
        Column("Tok/Min", ".spec.tokensPerMinute", "integer"),
        Column("$/Month", ".spec.budget.perMonth"),
        Column("Why", f"{_READY}reason"),
        _AGE,
        Column("Priority", ".spec.priority", "integer", wide=True),
    ),
}
"""Columns of each kind, in order."""


def status_schema(kind: str) -> dict[str, Any]:
    """Return the structural schema of a kind's status."""
    return _object("What is, as the operator last saw it.", **_COMMON, **STATUSES[kind])
