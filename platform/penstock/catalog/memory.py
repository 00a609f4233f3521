"""Bytes of weights and cache. Pure arithmetic on a geometry; sources of the constants stand beside them.

What it cannot know is said in `Budget`'s documentation: a running engine's own figure (`num_gpu_blocks` on its
metrics page) goes before all of this.
"""

from __future__ import annotations

from penstock.catalog.geometry import Geometry, Precision

KV_ELEMENT_BYTES = {"auto": 2, "bf16": 2, "fp8": 1}
"""Bytes of one cached number."""

# Bits of one stored weight, scales included (see Precision for where each comes from).
_BITS = {
    Precision.BF16: 16.0,
    Precision.FP8: 8.0,
    Precision.INT8: 8.0,
    Precision.INT4: 4 + (16 + 4) / 128,
    Precision.Q4_K_M: 4.89,
    Precision.MXFP4: 4 + 8 / 32,
    Precision.INT4_EXPERTS: 4 + 16 / 32,
}
_EXPERTS_ONLY = (Precision.MXFP4, Precision.INT4_EXPERTS)


def kv_bytes_per_token_and_layer(geometry: Geometry, dtype: str = "auto") -> int:
    """Return what one layer caches for one token, in bytes, over all KV heads."""
    element = KV_ELEMENT_BYTES[dtype]
    if geometry.latent is not None:
        return (geometry.latent.kv_rank + geometry.latent.rope) * element
    return 2 * geometry.kv_heads * geometry.head_size * element


def kv_bytes_per_token(geometry: Geometry, dtype: str = "auto") -> int:
    """Return what all layers cache for one token, in bytes, as long as no window has been filled."""
    return geometry.layers * kv_bytes_per_token_and_layer(geometry, dtype)


def kv_bytes_per_sequence(geometry: Geometry, tokens: int, dtype: str = "auto") -> int:
    """Return what a sequence of so many tokens caches, in bytes; bounded layers keep no more than their window."""
    per_layer = kv_bytes_per_token_and_layer(geometry, dtype)
    if geometry.window is None:
        return geometry.layers * per_layer * tokens
    whole = geometry.layers - geometry.window.layers
    return per_layer * (whole * tokens + geometry.window.layers * min(tokens, geometry.window.tokens))


def kv_share(geometry: Geometry, tensor: int, pipeline: int) -> float:
    """Return the part of a sequence's cache that one accelerator holds.

    Key-value heads are spread over tensor ranks and repeated beyond their number; a latent vector (MLA) is whole on
    every rank.
    """
    ways = 1 if geometry.latent is not None else min(tensor, geometry.kv_heads)
    return 1 / (ways * pipeline)


def weight_bytes(geometry: Geometry, precision: Precision) -> int:
    """Return the size of all weights stored so, in bytes."""
    return expert_weight_bytes(geometry, precision) + dense_weight_bytes(geometry, precision)


def expert_weight_bytes(geometry: Geometry, precision: Precision) -> int:
    """Return the size of the routed experts' weights, in bytes."""
    return round(geometry.expert_parameters * _BITS[precision] / 8)


def dense_weight_bytes(geometry: Geometry, precision: Precision) -> int:
    """Return the size of all weights but the routed experts', in bytes; embeddings stay 16-bit but in GGUF."""
    bits = _BITS[Precision.BF16] if precision in _EXPERTS_ONLY else _BITS[precision]
    embedding_bits = bits if precision is Precision.Q4_K_M else _BITS[Precision.BF16]
    layers = geometry.parameters - geometry.expert_parameters - geometry.embedding_parameters - geometry.towers
    towers = geometry.towers * _BITS[Precision.BF16]
    return round((layers * bits + geometry.embedding_parameters * embedding_bits + towers) / 8)
