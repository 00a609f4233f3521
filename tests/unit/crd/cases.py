"""For each rule over several fields: an object that keeps it, one that breaks it, and the remedy both checks name."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from penstock.api.meta import API_VERSION

MODEL = {"source": "hf://meta-llama/Llama-3.1-8B-Instruct", "accelerator": "nvidia-h100:1"}
LISTED = {"source": MODEL["source"], "accelerators": [{"class": "nvidia-h100", "count": 8}]}
ROUTE = {"backends": [{"model": "llama", "weight": 9}, {"model": "llama-next"}]}


@dataclass(frozen=True)
class Case:
    """One rule."""

    place: str
    """Where the rule stands, as in `penstock.api.crd.rules.RULES`."""
    number: int
    """Which rule there, from 0."""
    kept: dict[str, Any]
    """A spec that keeps the rule."""
    broken: dict[str, Any]
    """Nearly the same spec, which breaks it."""
    remedy: str
    """What both the API server's message and pydantic's say."""
    shown: str = ""
    """What the API server's message says as well: values."""
    name: str = "sample"

    @property
    def kind(self) -> str:
        return self.place.split(".")[0]

    def __str__(self) -> str:
        return f"{self.place}-{self.number}"


def resource(kind: str, spec: dict[str, Any], name: str = "sample") -> dict[str, Any]:
    """Return a whole object."""
    spec = copy.deepcopy(spec)
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _model(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**MODEL, **changes}.items() if value is not None}


def _listed(*placements: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**LISTED, "accelerators": list(placements), **changes}


_DRAFT = {"method": "draft_model", "model": "hf://meta-llama/Llama-3.2-1B", "tokens": 3}
_H100, _L4 = {"class": "nvidia-h100", "count": 4}, {"class": "nvidia-l4", "count": 4}

CASES = [
    Case("Model", 0, MODEL, MODEL, "lower-case letters, digits and", "'llama-3.1'", name="llama-3.1"),
    Case("Model.spec", 0, MODEL, _model(source=None), "give exactly one of source"),
    Case(
        "Model.spec",
        1,
        _model(source=None, preset="llama-3.1-8b"),
        _model(preset="llama-3.1-8b"),
        "keep exactly one of them",
        "'llama-3.1-8b' is given beside source 'hf://",
    ),
    Case("Model.spec", 2, LISTED, _model(accelerator=None), "write CLASS:COUNT, such as nvidia-h100:1, or a list"),
    Case("Model.spec", 3, LISTED, {**LISTED, **MODEL}, "keep one of them", "beside accelerator 'nvidia-h100:1'"),
    Case(
        "Model.spec",
        4,
        _model(replicas=3, scaling={"maxReplicas": 3}),
        _model(replicas=3, scaling={"maxReplicas": 2}),
        "set scaling.maxReplicas to 3",
        "3 is outside scaling.minReplicas 1 to scaling.maxReplicas 2",
    ),
    Case(
        "Model.spec",
        5,
        _model(replicas=2, scaling={"minReplicas": 2, "maxReplicas": 4}),
        _model(replicas=2, scaling={"minReplicas": 3, "maxReplicas": 4}),
        "set scaling.minReplicas lower",
        "2 is outside scaling.minReplicas 3 to scaling.maxReplicas 4",
    ),
    Case(
        "Model.spec",
        6,
        _listed({**_H100, "minReplicas": 2}, scaling={"maxReplicas": 2}),
        _listed({**_H100, "minReplicas": 3}, scaling={"maxReplicas": 2}),
        "lower it, or raise scaling.maxReplicas",
        "scaling.maxReplicas 2",
    ),
    Case(
        "Model.spec",
        7,
        _listed({**_H100, "maxReplicas": 1}, {**_L4, "maxReplicas": 2}, scaling={"minReplicas": 3, "maxReplicas": 9}),
        _listed({**_H100, "maxReplicas": 1}, {**_L4, "maxReplicas": 1}, scaling={"minReplicas": 3, "maxReplicas": 9}),
        "raise a maxReplicas in it",
        "2 replicas in all, below scaling.minReplicas 3",
    ),
    Case(
        "Model.spec",
        8,
        _listed(_H100, parallelism={"tensor": 2, "pipeline": 2}),
        _listed(_H100, parallelism={"tensor": 2, "pipeline": 3}),
        "make the count 6",
    ),
    Case(
        "Model.spec",
        9,
        _model(accelerator="nvidia-h100:8", parallelism={"tensor": 4, "data": 2}),
        _model(accelerator="nvidia-h100:4", parallelism={"tensor": 4, "data": 2}),
        "make the count 8",
        "'nvidia-h100:4' cannot hold",
    ),
    Case(
        "Model.spec",
        10,
        _model(task="Generate", speculative=_DRAFT),
        _model(task="Embed", speculative=_DRAFT),
        "remove it, or set task to Generate",
    ),
    Case(
        "Model.spec",
        11,
        _model(source="hf://q/model.gguf", quantization="gguf"),
        _model(source=None, preset="llama-3.1-8b", quantization="gguf"),
        "give the .gguf file as source",
    ),
    Case(
        "Model.spec",
        12,
        _model(source="hf://q/model.gguf", quantization="gguf"),
        _model(source="hf://q/model.GGUF", quantization="fp8"),
        "is a GGUF file: set gguf, or remove it",
        "fp8 is given, but source 'hf://q/model.GGUF'",
    ),
    Case(
        "Model.spec.source",
        0,
        _model(source="s3://bucket/prefix"),
        _model(source="hf://only-a-name"),
        "hf://ORGANISATION/NAME",
        "'hf://only-a-name' is not a source",
    ),
    Case(
        "Model.spec.accelerator",
        0,
        _model(accelerator="nvidia-h100"),
        _model(accelerator="nvidia-h100:0"),
        "write CLASS:COUNT, such as nvidia-h100:1",
        "'nvidia-h100:0' does not end in a count",
    ),
    Case(
        "Model.spec.accelerators[]",
        0,
        _listed({**_H100, "minReplicas": 1, "maxReplicas": 1}),
        _listed({**_H100, "minReplicas": 1, "maxReplicas": 0}),
        "lower it or raise maxReplicas",
        "1 is above maxReplicas 0",
    ),
    Case(
        "Model.spec.rollout",
        0,
        _model(rollout={"strategy": "Canary", "canaryPercent": 25, "canarySeconds": 60}),
        _model(rollout={"canaryPercent": 25}),
        "set strategy to Canary, or remove it",
        "25 is given, but strategy Surge has no canary",
    ),
    Case(
        "Model.spec.rollout",
        1,
        _model(rollout={"strategy": "Canary"}),
        _model(rollout={"strategy": "Surge", "canarySeconds": 60}),
        "set strategy to Canary, or remove it",
        "60 is given, but strategy Surge has no canary",
    ),
    Case(
        "Model.spec.accelerators[].class",
        0,
        _listed({"class": "nvidia.h100"}),
        _listed({"class": "NVIDIA_H100"}),
        "is not a valid name",
        "'NVIDIA_H100'",
    ),
    Case(
        "Model.spec.adapters[].source",
        0,
        _model(adapters=[{"name": "sql", "source": "pvc://adapters/sql"}]),
        _model(adapters=[{"name": "sql", "source": "pvc://"}]),
        "pvc://CLAIM/PATH",
        "'pvc://' is not a source",
    ),
    Case(
        "Model.spec.scaling",
        0,
        _model(scaling={"minReplicas": 1, "maxReplicas": 4}),
        _model(replicas=1, scaling={"minReplicas": 5, "maxReplicas": 4}),
        "set it to 5 or more",
        "4 is below minReplicas 5",
    ),
    Case(
        "Model.spec.scaling",
        1,
        _model(scaling={"targetPressure": "0.9"}),
        _model(scaling={"targetPressure": "1.01"}),
        'write a ratio such as "0.85"',
        "1.01 is not in (0, 1]",
    ),
    Case(
        "Model.spec.scaling",
        2,
        _model(scaling={"minReplicas": 0, "scaleToZeroAfterSeconds": 60}),
        _model(scaling={"minReplicas": 1, "scaleToZeroAfterSeconds": 60}),
        "set minReplicas to 0, or remove it",
        "60 is given, but minReplicas 1",
    ),
    Case(
        "Model.spec.speculative",
        0,
        _model(speculative={"method": "ngram"}),
        _model(speculative={"method": "eagle"}),
        "give the guessing model's URI",
        "method eagle needs one",
    ),
    Case(
        "Model.spec.speculative",
        1,
        _model(speculative=_DRAFT),
        _model(speculative={**_DRAFT, "method": "ngram"}),
        "method ngram takes none: remove it",
        "'hf://meta-llama/Llama-3.2-1B'",
    ),
    Case(
        "Model.spec.speculative.model",
        0,
        _model(speculative=_DRAFT),
        _model(speculative={**_DRAFT, "model": "hf://draft"}),
        "hf://ORGANISATION/NAME",
        "'hf://draft' is not a source",
    ),
    Case("Route", 0, ROUTE, ROUTE, "lower-case letters, digits and", "'gpt-3.5'", name="gpt-3.5"),
    Case(
        "Route.spec",
        0,
        {"backends": [{"model": "llama", "weight": 0}, {"model": "next"}]},
        {"backends": [{"model": "llama", "weight": 0}]},
        "give one backend a weight above 0",
    ),
    Case(
        "Route.spec",
        1,
        {**ROUTE, "fallbacks": ["small", "smaller"]},
        {**ROUTE, "fallbacks": ["small", "smaller", "small"]},
        "is named twice: keep one of them",
    ),
    Case("Tenant", 0, {}, {}, "lower-case letters, digits and", "'acme.com'", name="acme.com"),
    Case(
        "Tenant.spec.budget",
        0,
        {"budget": {"perDay": "50", "perMonth": 1000}},
        {"budget": {"perDay": "50.01", "perMonth": 50}},
        "so it could never be spent: lower it",
        "50.01 is above perMonth 50",
    ),
]
