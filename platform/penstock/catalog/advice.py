"""Does a Model fit where it is to run, and what to change when it does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from penstock.api import AcceleratorClass, Degrees, Model, Placement, Quantization
from penstock.api.explain import suggest
from penstock.catalog.budget import Budget, EngineLimits, memory_budget
from penstock.catalog.geometry import Geometry, Precision
from penstock.catalog.limits import engine_limits

_STORED = {
    Quantization.FP8: Precision.FP8,
    Quantization.INT8: Precision.INT8,
    Quantization.AWQ: Precision.INT4,
    Quantization.GPTQ: Precision.INT4,
    Quantization.GGUF: Precision.Q4_K_M,
    Quantization.MXFP4: Precision.MXFP4,
}
_MOST_ACCELERATORS = 16
_LEAST_CONTEXT = 1024


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change that makes a Model fit, as the arithmetic found by trying it."""

    field: str
    """The field to change, as written in YAML."""
    value: str
    """What to write there."""
    reason: str
    """What the change brings."""
    budget: Budget
    """The memory after the change."""

    def __str__(self) -> str:
        return f"set {self.field} to {self.value}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Fit:
    """The memory of a Model on one placement."""

    placement: Placement
    precision: Precision
    budget: Budget
    problem: str | None
    """Why it does not fit, or None when it does."""
    remedies: tuple[Remedy, ...] = ()
    """Changes that make it fit, each enough by itself; empty when it fits, or when nothing tried is enough."""

    @property
    def fits(self) -> bool:
        """Whether the engine can start there and serve a sequence of the wanted length."""
        return self.problem is None


@dataclass(frozen=True, slots=True)
class _Trial:
    """Everything a budget follows from, so that a change is one `replace`."""

    geometry: Geometry
    accelerator: AcceleratorClass
    degrees: Degrees
    precision: Precision
    kv_dtype: str
    context: int
    limits: EngineLimits

    @property
    def budget(self) -> Budget:
        return memory_budget(
            self.geometry,
            self.accelerator,
            self.degrees,
            precision=self.precision,
            kv_dtype=self.kv_dtype,
            context=self.context,
            limits=self.limits,
        )

    def problem(self, budget: Budget) -> str | None:
        """Say why the model does not fit, or None."""
        if (uneven := _uneven(self.geometry, self.degrees.tensor)) is not None:
            return uneven
        if self.geometry.layers < self.degrees.pipeline:
            return (
                f"pipeline parallelism {self.degrees.pipeline} is more than the model's {self.geometry.layers} layers"
            )
        if self.context > self.geometry.context:
            return f"contextLength {self.context} is more than the model's {self.geometry.context} tokens"
        if budget.kv_bytes <= 0:
            return f"weights and reserves leave no memory for the cache on {self.accelerator.name}"
        if not budget.fits:
            return f"the cache holds sequences of {budget.largest_context} tokens, not of {self.context}"
        return None

    @property
    def works(self) -> bool:
        """Whether the model fits."""
        return self.problem(self.budget) is None


def _uneven(geometry: Geometry, tensor: int) -> str | None:
    """Say why attention cannot be shared among so many ranks, or None: engines split heads evenly or not at all."""
    heads, shared = geometry.heads, geometry.kv_heads
    if heads % tensor:
        return f"tensor parallelism {tensor} does not divide the model's {heads} attention heads"
    if geometry.latent is None and shared % tensor and tensor % shared:
        return f"tensor parallelism {tensor} can neither split nor repeat the model's {shared} key-value heads evenly"
    return None


def assess(
    model: Model,
    geometry: Geometry,
    placement: Placement,
    classes: Iterable[AcceleratorClass],
) -> Fit:
    """Return the memory of a Model on one of its placements, with remedies when it does not fit.

    Args:
        model: the Model.
        geometry: its shape, from the catalog or its `config.json`.
        placement: one of `model.placements`.
        classes: all AcceleratorClasses there are; the placement's own must be among them.

    Raises:
        LookupError: the placement's class is not among them.
        EngineArgumentError: `spec.engine.args` has an impossible value for a flag that sizes memory.
    """
    by_name = {accelerator.name: accelerator for accelerator in classes}
    if placement.accelerator_class not in by_name:
        name = placement.accelerator_class
        raise LookupError(
            f"there is no AcceleratorClass {name!r}; add one to the files ({suggest(name, sorted(by_name))})"
        )
    accelerator = by_name[placement.accelerator_class]
    spec = model.spec
    trial = _Trial(
        geometry=geometry,
        accelerator=accelerator,
        degrees=model.degrees(placement, accelerator),
        precision=_STORED[spec.quantization] if spec.quantization else geometry.native,
        kv_dtype=spec.kv_cache.dtype,
        context=spec.context_length or geometry.context,
        limits=engine_limits(spec.engine.args, {variable.name: variable.value for variable in spec.env}),
    )
    budget = trial.budget
    problem = trial.problem(budget)
    remedies = () if problem is None else tuple(_remedies(model, placement, trial, by_name.values()))
    return Fit(placement, trial.precision, budget, problem, remedies)


def _remedies(
    model: Model, placement: Placement, trial: _Trial, classes: Iterable[AcceleratorClass]
) -> Iterator[Remedy]:
    """Yield the changes that make the model fit, each tried alone."""
    yield from _shorter(trial)
    cached = replace(trial, kv_dtype="fp8")
    if trial.kv_dtype == "auto" and cached.works:
        yield Remedy("spec.kvCache.dtype", "fp8", "halves the cache of each token", cached.budget)
    if trial.limits.blocks is not None:
        wider = replace(trial, limits=replace(trial.limits, blocks=None))
        yield from _tried(wider, "spec.engine.args", "no --num-gpu-blocks-override", "lets the memory decide")
    if trial.precision is Precision.BF16 and model.spec.quantization is None:
        if trial.accelerator.spec.fp8_flops is not None:
            stored = replace(trial, precision=Precision.FP8)
            yield from _tried(
                stored, "spec.quantization", "fp8", "the engine halves the layers' weights as it loads them"
            )
        stored = replace(trial, precision=Precision.INT4)
        yield from _tried(
            stored, "spec.quantization", "awq", "with a source of AWQ weights, a quarter of the layers' bytes"
        )
    yield from _more(model, placement, trial)
    yield from _elsewhere(model, placement, trial, classes)


def _tried(trial: _Trial, field: str, value: str, reason: str) -> Iterator[Remedy]:
    """Yield the change if it is enough, alone or with a shorter context."""
    if trial.works:
        yield Remedy(field, value, reason, trial.budget)
        return
    longest = trial.budget.largest_context
    shorter = replace(trial, context=longest)
    if _LEAST_CONTEXT <= longest < trial.context and shorter.works:
        yield Remedy(field, f"{value} and spec.contextLength to {longest}", reason, shorter.budget)


def _shorter(trial: _Trial) -> Iterator[Remedy]:
    longest = trial.budget.largest_context
    if longest >= trial.context:
        longest = min(trial.context, trial.geometry.context)
    if _LEAST_CONTEXT <= longest < trial.context:
        reason = "the longest sequence that the cache holds"
        yield from _tried(replace(trial, context=longest), "spec.contextLength", str(longest), reason)


def _more(model: Model, placement: Placement, trial: _Trial) -> Iterator[Remedy]:
    """Yield the fewest accelerators of the same class that are enough, by tensor parallelism."""
    others = trial.degrees.pipeline * trial.degrees.data
    for tensor in range(trial.degrees.tensor + 1, _MOST_ACCELERATORS // others + 1):
        wider = replace(trial, degrees=trial.degrees._replace(tensor=tensor))
        if trial.accelerator.is_cpu or not wider.works:
            continue
        count = tensor * others
        reason = f"{count} accelerators share the weights (tensor parallelism {tensor})"
        if model.spec.parallelism.tensor is not None:
            reason += f", with spec.parallelism.tensor {tensor}"
        yield Remedy(*_written(model, placement, placement.accelerator_class, count), reason, wider.budget)
        return


def _elsewhere(
    model: Model, placement: Placement, trial: _Trial, classes: Iterable[AcceleratorClass]
) -> Iterator[Remedy]:
    """Yield the cheapest other class that is enough with the same number of accelerators."""
    known = [c for c in classes if c.name != trial.accelerator.name and c.spec.price is not None and not c.is_cpu]
    for accelerator in sorted(known, key=lambda c: (c.usd_per_hour(), c.name)):
        if trial.precision is Precision.FP8 and accelerator.spec.fp8_flops is None:
            continue
        moved = replace(trial, accelerator=accelerator, degrees=model.degrees(placement, accelerator))
        if moved.works:
            price = accelerator.usd_per_hour() * placement.count
            reason = f"the cheapest class that holds it, at {price} USD an hour for each replica"
            yield Remedy(*_written(model, placement, accelerator.name, placement.count), reason, moved.budget)
            return


def _written(model: Model, placement: Placement, name: str, count: int) -> tuple[str, str]:
    """Return the field that holds a placement, and what to write there."""
    if model.spec.accelerator is not None:
        return "spec.accelerator", f"{name}:{count}"
    index = model.placements.index(placement)
    if name == placement.accelerator_class:
        return f"spec.accelerators[{index}].count", str(count)
    return f"spec.accelerators[{index}].class", name
