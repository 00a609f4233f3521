"""Where an accelerator's memory goes, and what is left for the cache."""

from __future__ import annotations

from dataclasses import dataclass, replace

from penstock.api import AcceleratorClass, Degrees
from penstock.catalog.geometry import Geometry, Precision
from penstock.catalog.memory import (
    dense_weight_bytes,
    expert_weight_bytes,
    kv_bytes_per_sequence,
    kv_bytes_per_token,
    kv_share,
)

GIB = 1024**3

CPU_CACHE_GIB = 1
"""Cache of an engine on processors, whatever the memory: left to itself vLLM takes most of the machine's."""

# Reserves per accelerator as llm-d-benchmark and BLIS use them for 80 GB cards; small cards run smaller batches.
_ACTIVATION_BYTES = {"dense": round(5.5 * GIB), "moe": 8 * GIB, "small card": 2 * GIB}
_SMALL_CARD_BYTES = 30 * GIB
_ALONE_BYTES, _TOGETHER_BYTES = round(0.15 * GIB), round(0.6 * GIB)
# Three engine processes (HTTP, core, worker) of vLLM 0.32 on a processor, measured resident.
_CPU_PROCESSES_BYTES = round(2.9e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """What the engine is told about memory, with vLLM's defaults."""

    utilization: float = 0.9
    """Part of the accelerator's memory that the engine may use."""
    block_tokens: int | None = None
    """Tokens in one cache block; 16 on accelerators and 128 on processors when None."""
    blocks: int | None = None
    """Cache blocks to use whatever the memory; None lets the memory decide."""
    sequences: int = 256
    """Most sequences in one step."""
    batch_tokens: int = 2048
    """Most tokens in one step, which sizes activations on processors."""
    cpu_cache_bytes: int = CPU_CACHE_GIB * GIB
    """Most that the cache takes on processors, where the engine is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The memory of one replica. All bytes are per accelerator.

    Adapters and draft models are not in it. Activations and what lies outside the allocator are
    reserves from experience, not measurements of this model.
    """

    total_bytes: int
    """What the engine may use."""
    weights_bytes: int
    activation_bytes: int
    non_torch_bytes: int
    """Communication buffers, contexts and, on processors, the processes themselves."""
    kv_bytes: int
    """What is left for the cache; negative when the weights alone do not fit."""
    kv_bytes_per_token: int
    """What one token takes on one accelerator while no window is filled."""
    kv_tokens: int
    """Tokens the whole replica's cache holds, in whole blocks."""
    block_tokens: int
    blocks: int
    """Cache blocks of the whole replica."""
    context: int
    """Longest sequence asked for, in tokens."""
    largest_context: int
    """Longest single sequence that fits, up to the model's own limit; 0 when none does."""
    sequences: int
    """Most sequences in one step, whatever the memory."""
    geometry: Geometry
    kv_dtype: str
    degrees: Degrees

    @property
    def fits(self) -> bool:
        """Whether the engine can start and serve one sequence of the length asked for."""
        return self.largest_context >= self.context

    def concurrency(self, prompt_tokens: int, output_tokens: int, *, finished: bool = False) -> int:
        """Return how many requests of one shape run at a time.

        Args:
            prompt_tokens: length of their prompts.
            output_tokens: length of their completions.
            finished: count each at its full length (the worst case), not at the mean over its life (half its output).
        """
        length = prompt_tokens + (output_tokens if finished else -(-output_tokens // 2))
        ranks = self.degrees.data
        return ranks * min(self.sequences, _rank_capacity(self, max(1, length)))


def _rank_capacity(budget: Budget, length: int) -> int:
    """Return how many sequences of one length one data-parallel rank holds, each one's last block counted whole."""
    usable = budget.kv_tokens // budget.degrees.data * kv_bytes_per_token(budget.geometry, budget.kv_dtype)
    whole = -(-length // budget.block_tokens) * budget.block_tokens
    return usable // kv_bytes_per_sequence(budget.geometry, whole, budget.kv_dtype)


def memory_budget(
    geometry: Geometry,
    accelerator: AcceleratorClass,
    degrees: Degrees,
    *,
    precision: Precision | None = None,
    kv_dtype: str = "auto",
    context: int | None = None,
    limits: EngineLimits | None = None,
) -> Budget:
    """Return where the memory of a replica's accelerators goes.

    Args:
        geometry: the model's shape.
        accelerator: the class, for its memory.
        degrees: how the replica spreads; their product is its number of accelerators.
        precision: how weights are stored; as published when None.
        kv_dtype: `auto` or `fp8`.
        context: longest sequence wanted, in tokens; the model's own limit when None.
        limits: what the engine is told about memory.
    """
    limits = limits or EngineLimits()
    precision = precision or geometry.native
    ways = degrees.tensor * degrees.pipeline
    weights = dense_weight_bytes(geometry, precision) / ways
    weights += expert_weight_bytes(geometry, precision) / (ways * degrees.data)
    total = int(accelerator.usable_bytes * limits.utilization)
    activation, other = _reserves(geometry, accelerator, degrees, limits)
    left = int(total - weights - activation - other)
    if accelerator.is_cpu:
        left = min(left, limits.cpu_cache_bytes)
    per_token = kv_bytes_per_token(geometry, kv_dtype) * kv_share(geometry, degrees.tensor, degrees.pipeline)
    block_tokens = limits.block_tokens or (128 if accelerator.is_cpu else 16)
    blocks = max(0, int(left // (per_token * block_tokens)))
    if limits.blocks is not None:
        # The engine takes this number as it is; more than the memory holds would kill it at start.
        blocks = min(blocks, limits.blocks)
    budget = Budget(
        total_bytes=total,
        weights_bytes=round(weights),
        activation_bytes=activation,
        non_torch_bytes=other,
        kv_bytes=left,
        kv_bytes_per_token=max(1, round(per_token)),
        kv_tokens=blocks * block_tokens * degrees.data,
        block_tokens=block_tokens,
        blocks=blocks * degrees.data,
        context=context or geometry.context,
        largest_context=0,
        sequences=limits.sequences,
        geometry=geometry,
        kv_dtype=kv_dtype,
        degrees=degrees,
    )
    return _with_largest_context(budget)


def _reserves(
    geometry: Geometry, accelerator: AcceleratorClass, degrees: Degrees, limits: EngineLimits
) -> tuple[int, int]:
    """Return the bytes for activations and for what lies outside the allocator, per accelerator."""
    if accelerator.is_cpu:
        inner = geometry.ffn if geometry.experts is None else geometry.experts.active * geometry.experts.ffn
        step = 2 * limits.batch_tokens * (2 * inner + 4 * geometry.hidden)
        return step + 4 * min(limits.sequences, limits.batch_tokens) * geometry.vocabulary, _CPU_PROCESSES_BYTES
    kind = "dense" if geometry.experts is None else "moe"
    if accelerator.usable_bytes < _SMALL_CARD_BYTES:
        kind = "small card"
    together = degrees.tensor * degrees.pipeline * degrees.data > 1
    return _ACTIVATION_BYTES[kind], _TOGETHER_BYTES if together else _ALONE_BYTES


def _with_largest_context(budget: Budget) -> Budget:
    """Return the budget with the longest sequence that one rank's cache holds, found by bisection."""
    low, high = 0, budget.geometry.context
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _rank_capacity(budget, middle) >= 1 else (low, middle - 1)
    return replace(budget, largest_context=low)
