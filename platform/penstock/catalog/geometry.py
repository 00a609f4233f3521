"""The shape of a model: what its parameter count, its weights and its cache follow from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """How the numbers of a checkpoint are stored."""

    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"
    """AWQ or GPTQ: 4 bits in groups of 128 with a 16-bit scale and a 4-bit zero; embeddings stay 16-bit."""
    Q4_K_M = "q4_k_m"
    """GGUF's usual 4-bit mix, as llama.cpp states it for Llama-3.1-8B: 4.89 bits a weight, embeddings included."""
    MXFP4 = "mxfp4"
    """Experts in 4 bits with an 8-bit scale per 32; everything else 16-bit, as gpt-oss has it."""
    INT4_EXPERTS = "int4_experts"
    """Experts in 4 bits with a 16-bit scale per 32; everything else 16-bit, as Kimi-K2.5 has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Mixture-of-experts layers."""

    count: int
    """Routed experts in a layer."""
    active: int
    """Routed experts that each token goes through."""
    ffn: int
    """Inner size of one expert."""
    shared_ffn: int = 0
    """Inner size of what every token goes through beside its experts."""
    dense_layers: int = 0
    """Layers that have a plain feed-forward network instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (MLA): keys and values are cached as one compressed vector a layer."""

    kv_rank: int
    rope: int
    nope: int
    value: int
    q_rank: int | None = None
    """None when queries are not compressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Layers that look back over a bounded number of tokens only."""

    tokens: int
    layers: int
    """How many of the layers are bounded so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A decoder-only transformer with gated feed-forward networks."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    """Inner size of the plain feed-forward networks; of no effect where all layers have experts."""
    vocabulary: int
    context: int
    """Longest sequence the model takes, in tokens."""
    tied: bool = False
    """Whether the output layer shares the input embedding's weights."""
    experts: Experts | None = None
    latent: LatentAttention | None = None
    window: Window | None = None
    towers: int = 0
    """Parameters of what sees or hears beside the language model; 16-bit whatever the rest is."""
    native: Precision = Precision.BF16
    """How the published checkpoint is stored."""

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads", "kv_heads", "head_size", "vocabulary", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not a size: give 1 or more")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}: correct one of them")

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the input embedding and the output layer."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def expert_parameters(self) -> int:
        """Parameters of all routed experts."""
        return 0 if self.experts is None else self._moe_layers * self.experts.count * 3 * self.hidden * self.experts.ffn

    @property
    def parameters(self) -> int:
        """All parameters. Biases are left out: they are less than 0.1 percent."""
        return self.embedding_parameters + self.expert_parameters + self._always_active + self.towers

    @property
    def active_parameters(self) -> int:
        """Parameters that one token of text goes through, embeddings included."""
        if self.experts is None:
            return self.parameters - self.towers
        routed = self._moe_layers * self.experts.active * 3 * self.hidden * self.experts.ffn
        return self.embedding_parameters + self._always_active + routed

    @property
    def _moe_layers(self) -> int:
        return 0 if self.experts is None else self.layers - self.experts.dense_layers

    @property
    def _always_active(self) -> int:
        """Parameters of attention, norms, routers, shared experts and plain feed-forward networks."""
        total = self.layers * (self._attention_parameters + 2 * self.hidden) + self.hidden
        total += (self.layers - self._moe_layers) * 3 * self.hidden * self.ffn
        if self.experts is not None:
            total += self._moe_layers * self.hidden * (3 * self.experts.shared_ffn + self.experts.count)
        return total

    @property
    def _attention_parameters(self) -> int:
        if self.latent is None:
            return 2 * self.hidden * self.head_size * (self.heads + self.kv_heads)
        mla = self.latent
        q_size = self.heads * (mla.nope + mla.rope)
        queries = self.hidden * q_size if mla.q_rank is None else mla.q_rank * (self.hidden + q_size)
        keys = self.hidden * (mla.kv_rank + mla.rope) + mla.kv_rank * self.heads * (mla.nope + mla.value)
        return queries + keys + self.heads * mla.value * self.hidden
