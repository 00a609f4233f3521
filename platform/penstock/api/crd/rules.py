"""CEL rules: what the resource types check over several fields, checked by the API server before anything is stored.

Each rule stands where its counterpart in `penstock.api` stands, and its message names the same remedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}([.]{_LABEL})*"
_COUNT = "([1-9][0-9]{0,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-6])"

SOURCE_PATTERN = (
    r"^(hf://[^/\s@]+/[^/\s@]+(@\S+)?|(pvc|s3|gs|oci|tiny)://[^/\s]\S*|file://\S*[^/\s]\S*)$"  # as parse_source
)
ACCELERATOR_PATTERN = rf"^{_SUBDOMAIN}(:{_COUNT})?$"


class Rule(NamedTuple):
    """One rule of `x-kubernetes-validations`."""

    rule: str
    """CEL; true when all is well."""
    message: str
    """What is wrong and what to do, with %s and %d for the values of `shown`."""
    shown: tuple[str, ...] = ()
    """CEL for the values that the message shows."""
    field: str = ""
    """JSONPath below the rule's place, for the field that is to change."""
    reason: str = "FieldValueInvalid"
    on_change: bool = False
    """Whether the rule looks at `oldSelf`, an optional value that is empty for a new object."""

    def as_schema(self) -> dict[str, Any]:
        """Return the rule as it stands in a CRD."""
        made: dict[str, Any] = {"rule": self.rule, "reason": self.reason}
        if self.shown:
            # Not string() and +: the API server has no bound for the length of what string() returns.
            made["messageExpression"] = f"{_quoted(self.message)}.format([{', '.join(self.shown)}])"
        else:
            made["message"] = self.message
        if self.on_change:
            made["optionalOldSelf"] = True
        return made | ({"fieldPath": self.field} if self.field else {})


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _raw(pattern: str) -> str:
    return f"r'{pattern}'"


_NAME = Rule(
    "!self.metadata.name.contains('.') && size(self.metadata.name) <= 63",
    "'%s' is not a valid name: use lower-case letters, digits and inner hyphens, 63 at most",
    ("self.metadata.name",),
)
_SOURCE = Rule(
    f"self.matches({_raw(SOURCE_PATTERN)})",
    "'%s' is not a source: write hf://ORGANISATION/NAME, pvc://CLAIM/PATH, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, "
    "oci://REGISTRY/REPOSITORY:TAG or file:///ABSOLUTE/PATH",
    ("self",),
)
_PRODUCT = (
    "((has(self.parallelism.tensor) ? self.parallelism.tensor : 1) * self.parallelism.pipeline * self.parallelism.data)"
)
_ACCELERATOR_COUNT = "(self.accelerator.contains(':') ? int(self.accelerator.split(':')[1]) : 1)"
_HAS_LIST = "has(self.accelerators) && size(self.accelerators) > 0"
_ROOM = "self.accelerators.map(a, a.maxReplicas).sum()"
_RATIO = "double(string(self.targetPressure))"

# The API server fills replicas in with 1, so 1 may mean that nobody asked for a number. And Penstock writes it, so that
# a number which stood before is nobody's mistake when the bounds move.
_REPLICAS_STAND = (
    "self.scaling.mode != 'Pressure' || self.replicas == 1 || "
    "(oldSelf.hasValue() && oldSelf.value().replicas == self.replicas)"
)

_MODEL_SPEC = (
    Rule(
        "has(self.source) || has(self.preset)",
        "source is missing: give exactly one of source (a URI such as hf://ORGANISATION/NAME) and preset",
        field=".source",
        reason="FieldValueRequired",
    ),
    Rule(
        "!(has(self.source) && has(self.preset))",
        "'%s' is given beside source '%s': keep exactly one of them",
        ("self.preset", "self.source"),
        ".preset",
    ),
    Rule(
        f"has(self.accelerator) || ({_HAS_LIST})",
        "accelerator is missing: write CLASS:COUNT, such as nvidia-h100:1, or a list in accelerators",
        field=".accelerator",
        reason="FieldValueRequired",
    ),
    Rule(
        f"!(has(self.accelerator) && {_HAS_LIST})",
        "accelerators is given beside accelerator '%s': keep one of them",
        ("self.accelerator",),
        ".accelerators",
    ),
    Rule(
        f"{_REPLICAS_STAND} || self.replicas <= self.scaling.maxReplicas",
        "%d is outside scaling.minReplicas %d to scaling.maxReplicas %d: set scaling.maxReplicas to %d",
        ("self.replicas", "self.scaling.minReplicas", "self.scaling.maxReplicas", "self.replicas"),
        ".replicas",
        on_change=True,
    ),
    Rule(
        f"{_REPLICAS_STAND} || self.replicas >= self.scaling.minReplicas",
        "%d is outside scaling.minReplicas %d to scaling.maxReplicas %d: set scaling.minReplicas lower",
        ("self.replicas", "self.scaling.minReplicas", "self.scaling.maxReplicas"),
        ".replicas",
        on_change=True,
    ),
    Rule(
        "!has(self.accelerators) || self.accelerators.all(a, !has(a.minReplicas) || "
        "a.minReplicas <= self.scaling.maxReplicas)",
        "a minReplicas in accelerators is above scaling.maxReplicas %d: lower it, or raise scaling.maxReplicas",
        ("self.scaling.maxReplicas",),
        ".accelerators",
    ),
    Rule(
        f"!({_HAS_LIST}) || !self.accelerators.all(a, has(a.maxReplicas)) || {_ROOM} >= self.scaling.minReplicas",
        "accelerators allows %d replicas in all, below scaling.minReplicas %d: raise a maxReplicas in it",
        (_ROOM, "self.scaling.minReplicas"),
        ".accelerators",
    ),
    Rule(
        f"!has(self.accelerators) || self.accelerators.all(a, a.count % {_PRODUCT} == 0)",
        "a count in accelerators cannot hold parallelism (tensor x pipeline x data), which takes %d: make the count %d",
        (_PRODUCT, _PRODUCT),
        ".accelerators",
    ),
    Rule(
        f"!has(self.accelerator) || !self.accelerator.matches({_raw(ACCELERATOR_PATTERN)}) || "
        f"{_ACCELERATOR_COUNT} % {_PRODUCT} == 0",
        "'%s' cannot hold parallelism (tensor x pipeline x data), which takes %d: make the count %d",
        ("self.accelerator", _PRODUCT, _PRODUCT),
        ".accelerator",
    ),
    Rule(
        "self.task != 'Embed' || !has(self.speculative)",
        "speculative is given, but an Embed model writes no tokens: remove it, or set task to Generate",
        field=".speculative",
    ),
    Rule(
        "!(has(self.quantization) && self.quantization == 'gguf' && has(self.preset))",
        "gguf weights are single files that presets do not name: give the .gguf file as source",
        field=".quantization",
    ),
    Rule(
        "!has(self.source) || !self.source.lowerAscii().endsWith('.gguf') || !has(self.quantization) || "
        "self.quantization == 'gguf'",
        "%s is given, but source '%s' is a GGUF file: set gguf, or remove it",
        ("self.quantization", "self.source"),
        ".quantization",
    ),
)

_SCALING = (
    Rule(
        "self.minReplicas <= self.maxReplicas",
        "%d is below minReplicas %d: set it to %d or more",
        ("self.maxReplicas", "self.minReplicas", "self.minReplicas"),
        ".maxReplicas",
    ),
    Rule(
        f"{_RATIO} > 0.0 && {_RATIO} <= 1.0",
        '%s is not in (0, 1]: write a ratio such as "0.85"',
        ("string(self.targetPressure)",),
        ".targetPressure",
    ),
    Rule(
        "!has(self.scaleToZeroAfterSeconds) || self.minReplicas == 0",
        "%d is given, but minReplicas %d keeps replicas: set minReplicas to 0, or remove it",
        ("self.scaleToZeroAfterSeconds", "self.minReplicas"),
        ".scaleToZeroAfterSeconds",
    ),
)

_ROLLOUT = tuple(
    Rule(
        f"!has(self.{field}) || self.strategy == 'Canary'",
        "%d is given, but strategy Surge has no canary: set strategy to Canary, or remove it",
        (f"self.{field}",),
        f".{field}",
    )
    for field in ("canaryPercent", "canarySeconds")
)

_SPECULATIVE = (
    Rule(
        "self.method in ['ngram', 'mtp'] || has(self.model)",
        "model is missing, and method %s needs one: give the guessing model's URI",
        ("self.method",),
        ".model",
        "FieldValueRequired",
    ),
    Rule(
        "!(self.method in ['ngram', 'mtp']) || !has(self.model)",
        "'%s' is given, but method %s takes none: remove it",
        ("self.model", "self.method"),
        ".model",
    ),
)

RULES: Mapping[str, tuple[Rule, ...]] = {
    "Model": (_NAME,),
    "Model.spec": _MODEL_SPEC,
    "Model.spec.source": (_SOURCE,),
    "Model.spec.task": (
        Rule(
            "self == oldSelf",
            "task is fixed, since clients of one task cannot use the other: create another Model",
        ),
    ),
    "Model.spec.accelerator": (
        Rule(
            f"self.matches({_raw(ACCELERATOR_PATTERN)})",
            "'%s' does not end in a count of accelerators: write CLASS:COUNT, such as nvidia-h100:1",
            ("self",),
        ),
    ),
    "Model.spec.accelerators[]": (
        Rule(
            "!(has(self.minReplicas) && has(self.maxReplicas)) || self.minReplicas <= self.maxReplicas",
            "%d is above maxReplicas %d: lower it or raise maxReplicas",
            ("self.minReplicas", "self.maxReplicas"),
            ".minReplicas",
        ),
    ),
    "Model.spec.accelerators[].class": (
        Rule(
            f"self.matches({_raw(f'^{_SUBDOMAIN}$')})",
            "'%s' is not a valid name: use lower-case letters, digits, and hyphens or dots inside",
            ("self",),
        ),
    ),
    "Model.spec.adapters[].source": (_SOURCE,),
    "Model.spec.rollout": _ROLLOUT,
    "Model.spec.scaling": _SCALING,
    "Model.spec.speculative": _SPECULATIVE,
    "Model.spec.speculative.model": (_SOURCE,),
    "Route": (_NAME,),
    "Route.spec": (
        Rule(
            "self.backends.exists(b, b.weight > 0)",
            "every weight is 0, so no request could go anywhere: give one backend a weight above 0",
            field=".backends",
        ),
        Rule(
            "!has(self.fallbacks) || self.fallbacks.all(x, self.fallbacks.exists_one(y, x == y))",
            "a model is named twice: keep one of them",
            field=".fallbacks",  # not the reason FieldValueDuplicate, with which the message is not shown
        ),
    ),
    "Tenant": (_NAME,),
    "Tenant.spec.budget": (
        Rule(
            "!(has(self.perDay) && has(self.perMonth)) || double(string(self.perDay)) <= double(string(self.perMonth))",
            "%s is above perMonth %s, so it could never be spent: lower it",
            ("string(self.perDay)", "string(self.perMonth)"),
            ".perDay",
        ),
    ),
}
"""Rules by the place they stand at."""


def add_rules(kind: str, schema: dict[str, Any]) -> None:
    """Put the rules of a kind into its schema.

    Raises:
        LookupError: a rule's place is not in the schema, as after a field was renamed.
    """
    for place, rules in RULES.items():
        if place == kind or place.startswith(f"{kind}."):
            _at(schema, place)["x-kubernetes-validations"] = [rule.as_schema() for rule in rules]


def _at(schema: dict[str, Any], place: str) -> dict[str, Any]:
    found = schema
    for step in place.split(".")[1:]:
        name = step.removesuffix("[]")
        if name not in found.get("properties", {}):
            raise LookupError(f"{place} has rules, but the schema has no such field: move the rules in {__name__}")
        found = found["properties"][name]
        if step.endswith("[]"):
            found = found["items"]
    return found
