"""Model: what to serve, on what, how many, how fast and for how much."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from penstock.api.accelerator_class import AcceleratorClass, Purchase
from penstock.api.meta import (
    API_VERSION,
    ApiObject,
    ApiVersion,
    Resource,
    Seconds,
    SecretReference,
    Text,
    check_subdomain,
    field_error,
)
from penstock.api.quantity import Money
from penstock.api.rollout import Rollout
from penstock.api.scaling import Scaling, ScalingMode
from penstock.api.source import SourceUri

Count = Annotated[int, Field(ge=1, le=4096)]


class Task(StrEnum):
    """What a model does, which decides the paths it answers."""

    GENERATE = "Generate"
    EMBED = "Embed"


class Quantization(StrEnum):
    """How weights are stored."""

    FP8 = "fp8"
    INT8 = "int8"
    AWQ = "awq"
    GPTQ = "gptq"
    GGUF = "gguf"
    MXFP4 = "mxfp4"


class SpeculativeMethod(StrEnum):
    """How tokens are guessed ahead; the names are vLLM's."""

    NGRAM = "ngram"
    DRAFT_MODEL = "draft_model"
    EAGLE = "eagle"
    EAGLE3 = "eagle3"
    MEDUSA = "medusa"
    MTP = "mtp"

    @property
    def needs_model(self) -> bool:
        """Whether the guesses come from weights of their own."""
        return self not in (SpeculativeMethod.NGRAM, SpeculativeMethod.MTP)


class AtCeiling(StrEnum):
    """What to do when a Model would cost more than its ceiling."""

    HOLD = "Hold"
    """Add no replica beyond the ceiling; requests wait or are shed."""
    WARN = "Warn"
    """Scale on, and say so in a condition."""


class Placement(ApiObject):
    """One accelerator class that replicas may run on."""

    accelerator_class: Annotated[str, AfterValidator(check_subdomain), Field(alias="class")]
    """Name of an AcceleratorClass."""
    count: Count = 1
    """Accelerators that one replica takes."""
    purchase: Purchase = Purchase.ON_DEMAND
    """How they are bought, which decides their price."""
    min_replicas: Annotated[int, Field(ge=0)] | None = None
    """Fewest replicas on this class; no bound of its own when left out."""
    max_replicas: Annotated[int, Field(ge=0)] | None = None
    """Most replicas on this class; no bound of its own when left out."""

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if None not in (self.min_replicas, self.max_replicas) and (self.min_replicas or 0) > (self.max_replicas or 0):
            message = f"{self.min_replicas} is above maxReplicas {self.max_replicas}: lower it or raise maxReplicas"
            raise field_error("minReplicas", message)
        return self


class EngineSpec(ApiObject):
    """The inference engine."""

    name: Text = "vLLM"
    """Engine: `vLLM`."""
    version: Text | None = None
    """Engine version; the platform's own when left out."""
    image: Text | None = None
    """Container image of the engine; the platform's own when left out. Unused on one machine."""
    args: tuple[str, ...] = ()
    """Extra command-line arguments for the engine, after those that Penstock derives from this Model."""


class KvCache(ApiObject):
    """The cache of attention keys and values."""

    dtype: Literal["auto", "fp8"] = "auto"
    """Number format of the cache: `auto` is the model's own (2 bytes), `fp8` takes 1 byte and halves the cache."""


class Speculative(ApiObject):
    """Speculative decoding: guess tokens ahead, then verify them in one step."""

    method: SpeculativeMethod
    """Where guesses come from."""
    model: SourceUri | None = None
    """Weights of the guessing model, a URI as in `spec.source`; for methods that have one."""
    tokens: Annotated[int, Field(ge=1, le=64)] = 3
    """Tokens guessed in each step."""

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if self.method.needs_model and self.model is None:
            raise field_error("model", f"is missing, and method {self.method} needs one: give the guessing model's URI")
        if not self.method.needs_model and self.model is not None:
            raise field_error("model", f"{self.model!r} is given, but method {self.method} takes none: remove it")
        return self


class Parallelism(ApiObject):
    """How one replica spreads over its accelerators; tensor x pipeline x data is what it takes."""

    tensor: Count | None = None
    """Accelerators that share each layer; what `count` leaves for it when left out (1 on processors)."""
    pipeline: Count = 1
    """Groups of layers, one after another."""
    data: Count = 1
    """Copies of the attention layers; experts are shared among them."""


class Degrees(NamedTuple):
    """Parallel degrees with nothing left to default."""

    tensor: int
    pipeline: int
    data: int


class Slo(ApiObject):
    """What users are promised, at the 95th percentile."""

    time_to_first_token_milliseconds: Annotated[int, Field(ge=1)] | None = None
    """Longest time from request to first token, in milliseconds."""
    time_per_output_token_milliseconds: Annotated[int, Field(ge=1)] | None = None
    """Longest mean time between output tokens, in milliseconds."""


class CostSpec(ApiObject):
    """What serving may cost."""

    target_per_million_tokens: Money | None = None
    """Wanted cost of a million tokens, prompt and completion together, in US dollars; reported, not enforced."""
    ceiling_per_hour: Money | None = None
    """Most that all replicas together may cost in an hour, in US dollars."""
    at_ceiling: AtCeiling = AtCeiling.HOLD
    """What to do when the next replica would go beyond the ceiling."""


class Adapter(ApiObject):
    """A LoRA adapter, a model name of its own to clients."""

    name: Text
    """Model name that clients give."""
    source: SourceUri
    """Weights of the adapter, a URI as in `spec.source`."""


class EnvVar(ApiObject):
    """An environment variable of the engine's process."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """Name of the variable."""
    value: str = ""
    """Value of the variable."""


class ModelSpec(ApiObject):
    """What to serve and how."""

    source: SourceUri | None = None
    """Weights: a URI of scheme hf, pvc, s3, gs, oci, file or tiny. Exactly one of `source` and `preset`."""
    preset: Text | None = None
    """A model of the built-in catalog, such as `llama-3.1-8b`. Exactly one of `source` and `preset`."""
    source_secret_ref: SecretReference | None = None
    """Token of the hub, for gated and private weights. Unused on one machine: set HF_TOKEN there."""
    task: Task = Task.GENERATE
    """What the model does: `Generate` answers chat and completions, `Embed` answers embeddings."""
    accelerator: Text | None = None
    """Short form of one placement, CLASS:COUNT, such as `nvidia-h100:1`. Exactly one of this and `accelerators`."""
    accelerators: tuple[Placement, ...] = ()
    """Accelerator classes that replicas may run on."""
    engine: EngineSpec = EngineSpec()
    """The inference engine."""
    quantization: Quantization | None = None
    """How weights are stored; as the source has them when left out."""
    kv_cache: KvCache = KvCache()
    """The cache of attention keys and values."""
    speculative: Speculative | None = None
    """Speculative decoding; none when left out."""
    parallelism: Parallelism = Parallelism()
    """How one replica spreads over its accelerators."""
    context_length: Annotated[int, Field(ge=1)] | None = None
    """Longest sequence, prompt and completion together, in tokens; the model's own limit when left out."""
    replicas: Annotated[int, Field(ge=0)] = 1
    """Wanted replicas. With `scaling.mode: Pressure` Penstock writes it, as an HPA would, within the bounds."""
    scaling: Scaling = Scaling()
    """How the number of replicas follows the load."""
    rollout: Rollout = Rollout()
    """How a changed revision takes over from the one that serves."""
    slo: Slo = Slo()
    """What users are promised."""
    cost: CostSpec = CostSpec()
    """What serving may cost."""
    adapters: tuple[Adapter, ...] = ()
    """LoRA adapters served beside the model."""
    env: tuple[EnvVar, ...] = ()
    """Environment variables of the engine's process."""
    drain_timeout_seconds: Seconds = 600
    """Longest time that a replica which is to go may spend on finishing its requests, in seconds."""
    pod_template: dict[str, Any] = Field(default_factory=dict)
    """Kubernetes pod template merged over the one Penstock makes. Unused on one machine."""

    @field_validator("accelerator")
    @classmethod
    def _check_accelerator(cls, text: str | None) -> str | None:
        if text is not None:
            _parse_accelerator(text)
        return text

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_exclusive(self)
        _check_replicas(self)
        _check_degrees(self)
        _check_coherence(self)
        _refuse_repeats("adapters", [adapter.name for adapter in self.adapters])
        _refuse_repeats("env", [variable.name for variable in self.env])
        return self

    @property
    def placements(self) -> tuple[Placement, ...]:
        """The accelerator classes to run on, whichever form they were given in; at least one."""
        if self.accelerator is not None:
            return (_parse_accelerator(self.accelerator),)
        return self.accelerators


def _parse_accelerator(text: str) -> Placement:
    name, separator, count = text.partition(":")
    if separator and not (count.isascii() and count.isdigit() and 1 <= int(count[:6]) <= 4096):
        raise field_error(
            "", f"{text!r} does not end in a count of accelerators: write CLASS:COUNT, such as nvidia-h100:1"
        )
    check_subdomain(name)
    return Placement(accelerator_class=name, count=int(count or 1))


def _check_exclusive(spec: ModelSpec) -> None:
    if spec.source is None and spec.preset is None:
        message = "is missing: give exactly one of source (a URI such as hf://ORGANISATION/NAME) and preset"
        raise field_error("source", message)
    if spec.source is not None and spec.preset is not None:
        raise field_error("preset", f"{spec.preset!r} is given beside source {spec.source!r}: keep exactly one of them")
    if spec.accelerator is None and not spec.accelerators:
        raise field_error(
            "accelerator", "is missing: write CLASS:COUNT, such as nvidia-h100:1, or a list in accelerators"
        )
    if spec.accelerator is not None and spec.accelerators:
        message = f"is given beside accelerator {spec.accelerator!r}: keep one of them"
        raise field_error("accelerators", message)
    _refuse_repeats("accelerators", [f"{p.accelerator_class}:{p.count} {p.purchase}" for p in spec.accelerators])


def _check_replicas(spec: ModelSpec) -> None:
    low, high = spec.scaling.min_replicas, spec.scaling.max_replicas
    # An API server fills `replicas` in with 1, so 1 may mean that nobody asked for a number.
    asked = "replicas" in spec.model_fields_set and spec.replicas != 1
    if spec.scaling.mode is ScalingMode.PRESSURE and asked and not low <= spec.replicas <= high:
        remedy = (
            f"set scaling.maxReplicas to {spec.replicas}" if spec.replicas > high else "set scaling.minReplicas lower"
        )
        message = f"{spec.replicas} is outside scaling.minReplicas {low} to scaling.maxReplicas {high}: {remedy}"
        raise field_error("replicas", message)
    for index, placement in enumerate(spec.placements):
        if placement.min_replicas is not None and placement.min_replicas > high:
            message = (
                f"{placement.min_replicas} is above scaling.maxReplicas {high}: lower it, or raise scaling.maxReplicas"
            )
            raise field_error(f"accelerators[{index}].minReplicas", message)
    if spec.placements and all(placement.max_replicas is not None for placement in spec.placements):
        room = sum(placement.max_replicas or 0 for placement in spec.placements)
        if room < low:
            message = f"allows {room} replicas in all, below scaling.minReplicas {low}: raise a maxReplicas in it"
            raise field_error("accelerators", message)


def _check_degrees(spec: ModelSpec) -> None:
    ways = spec.parallelism
    product = (ways.tensor or 1) * ways.pipeline * ways.data
    for index, placement in enumerate(spec.placements):
        if placement.count % product:
            field = "accelerator" if spec.accelerator is not None else f"accelerators[{index}].count"
            asked = f"parallelism (tensor {ways.tensor or 1} x pipeline {ways.pipeline} x data {ways.data})"
            message = (
                f"{placement.count} accelerators cannot hold {asked}, which takes {product}: make the count {product}"
            )
            raise field_error(field, message)


def _check_coherence(spec: ModelSpec) -> None:
    if spec.task is Task.EMBED and spec.speculative is not None:
        raise field_error(
            "speculative", "is given, but an Embed model writes no tokens: remove it, or set task to Generate"
        )
    if spec.quantization is Quantization.GGUF and spec.preset is not None:
        message = "gguf weights are single files that presets do not name: give the .gguf file as source"
        raise field_error("quantization", message)
    is_gguf = (spec.source or "").lower().endswith(".gguf")
    if is_gguf and spec.quantization not in (None, Quantization.GGUF):
        message = f"{spec.quantization} is given, but source {spec.source!r} is a GGUF file: set gguf, or remove it"
        raise field_error("quantization", message)


def _refuse_repeats(field: str, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise field_error(f"{field}[{index}]", f"{name!r} is listed twice: keep one of them")


class Model(Resource):
    """A language model to serve; namespaced."""

    KIND: ClassVar[str] = "Model"

    api_version: ApiVersion = API_VERSION
    """API group and version."""
    kind: Literal["Model"] = "Model"
    """Kind of the resource."""
    spec: ModelSpec
    """What to serve and how."""
    status: dict[str, Any] | None = None
    """Written by Penstock."""

    @property
    def placements(self) -> tuple[Placement, ...]:
        """The accelerator classes to run on, whichever form they were given in; at least one."""
        return self.spec.placements

    def degrees(self, placement: Placement, accelerator_class: AcceleratorClass) -> Degrees:
        """Return the parallel degrees of a replica on one placement.

        On processors a count is cores, not ranks, so tensor parallelism is 1 unless asked for.
        """
        ways = self.spec.parallelism
        share = 1 if accelerator_class.is_cpu else placement.count // (ways.pipeline * ways.data)
        return Degrees(tensor=ways.tensor or share, pipeline=ways.pipeline, data=ways.data)
