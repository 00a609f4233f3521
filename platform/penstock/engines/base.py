"""What Penstock needs of an inference engine, whatever its name."""

from __future__ import annotations

from typing import Protocol

import msgspec


class EngineLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of an engine's `/metrics`, in the names that all engines share here."""

    kv_usage: float
    """Share of KV-cache blocks that live requests hold, 0 to 1."""
    running: int
    waiting: int
    """Requests the engine holds back, whatever the reason."""
    waiting_for_capacity: int
    """Those held back for want of KV blocks or sequence slots."""
    preemptions: int
    """Counter."""
    prompt_tokens: int
    """Counter."""
    generation_tokens: int
    """Counter."""
    prefix_queries: int
    """Counter, tokens looked up in the prefix cache."""
    prefix_hits: int
    """Counter, tokens found there."""
    kv_blocks: int | None = None
    block_tokens: int | None = None
    started_s: float | None = None
    """When the replica's process began, by its own machine's clock (Unix seconds); None when it does not say."""

    @property
    def kv_capacity_tokens(self) -> int | None:
        """Tokens the KV cache holds, when the engine says so."""
        if self.kv_blocks is None or self.block_tokens is None:
            return None
        return self.kv_blocks * self.block_tokens


class LaunchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is to run, resolved from a Model: nothing here needs a look-up any more."""

    served_name: str
    weights: str
    """A local folder, or a URI that `penstock_engine.weights` resolves inside the replica."""
    task: str
    """`Generate` or `Embed`."""
    context_length: int | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    speculative: tuple[tuple[str, str], ...] = ()
    """Key and value pairs of the engine's speculative configuration."""
    adapters: tuple[tuple[str, str], ...] = ()
    """Name and weights of each LoRA adapter."""
    on_cpu: bool = False
    extra_args: tuple[str, ...] = ()


class Engine(Protocol):
    """An adapter."""

    name: str
    """As in `Model.spec.engine.name`."""
    readiness_path: str
    metrics_path: str

    def argv(self, spec: LaunchSpec) -> list[str]:
        """Return the engine's command-line flags, without the program name."""
        ...

    def environment(self, spec: LaunchSpec, *, scratch: str | None = None) -> dict[str, str]:
        """Return the environment variables that a replica needs.

        Args:
            spec: What it runs.
            scratch: Absolute folder for all that the engine writes and nobody keeps; its own defaults when None.
                Caches are not among it: downloaded weights and compiled kernels outlive a replica.
        """
        ...

    def parse_load(self, metrics: bytes) -> EngineLoad:
        """Read an answer of the engine's metrics page.

        Raises:
            ValueError: a metric that every version has is absent; the message names it.
        """
        ...
