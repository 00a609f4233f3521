"""Geometry from a `config.json` as Hugging Face's transformers writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.catalog.geometry import Experts, Geometry, LatentAttention, Precision, Window

_METHODS = {
    "fp8": Precision.FP8,
    "fbgemm_fp8": Precision.FP8,
    "awq": Precision.INT4,
    "gptq": Precision.INT4,
    "mxfp4": Precision.MXFP4,
}


class ConfigError(ValueError):
    """A `config.json` that does not say what memory arithmetic needs."""


def from_config(config: Any) -> Geometry:
    """Return the geometry that a `config.json` describes.

    Args:
        config: the parsed file. For models that also see or hear, the part under `text_config` counts.

    Raises:
        ConfigError: it is no object, or a size is missing or impossible; the message names it.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f"config.json: holds a {type(config).__name__}, not an object: is this a folder of weights?")
    text = {**config, **config["text_config"]} if isinstance(config.get("text_config"), Mapping) else config
    layers, hidden, heads = (_size(text, name) for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    try:
        return Geometry(
            layers=layers,
            hidden=hidden,
            heads=heads,
            kv_heads=_size(text, "num_key_value_heads", default=heads),
            head_size=_size(text, "head_dim", default=max(1, hidden // heads)),
            ffn=_size(text, "intermediate_size"),
            vocabulary=_size(text, "vocab_size"),
            context=_size(text, "max_position_embeddings"),
            tied=bool(text.get("tie_word_embeddings", False)),
            experts=_experts(text, layers),
            latent=_latent(text),
            window=_window(text, layers),
            native=_native(text),
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"config.json: {error}") from error


def _size(text: Mapping[str, Any], name: str, *, default: int | None = None) -> int:
    value = text.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        state = "is missing" if value is None else f"{value!r} is not a whole number of 1 or more"
        raise ConfigError(f"config.json: {name} {state}: memory cannot be planned without it")
    return value


def _experts(text: Mapping[str, Any], layers: int) -> Experts | None:
    names = ("n_routed_experts", "num_local_experts", "num_experts")
    count = next((text[name] for name in names if text.get(name)), None)
    if count is None:
        return None
    ffn = _size(text, "moe_intermediate_size", default=_size(text, "intermediate_size"))
    shared = text.get("shared_expert_intermediate_size") or ffn * (text.get("n_shared_experts") or 0)
    return Experts(
        count=int(count),
        active=_size(text, "num_experts_per_tok"),
        ffn=ffn,
        shared_ffn=int(shared),
        dense_layers=min(int(text.get("first_k_dense_replace") or 0), layers),
    )


def _latent(text: Mapping[str, Any]) -> LatentAttention | None:
    if not text.get("kv_lora_rank"):
        return None
    return LatentAttention(
        kv_rank=_size(text, "kv_lora_rank"),
        rope=_size(text, "qk_rope_head_dim"),
        nope=_size(text, "qk_nope_head_dim"),
        value=_size(text, "v_head_dim"),
        q_rank=text.get("q_lora_rank"),
    )


def _window(text: Mapping[str, Any], layers: int) -> Window | None:
    tokens = text.get("sliding_window")
    if not tokens or text.get("use_sliding_window") is False:
        return None
    kinds, pattern = text.get("layer_types"), text.get("sliding_window_pattern")
    if isinstance(kinds, list):
        bounded = sum(kind == "sliding_attention" for kind in kinds)
    elif pattern or text.get("model_type") == "gemma2":
        bounded = layers - layers // int(pattern or 2)
    else:
        bounded = layers
    return Window(tokens=int(tokens), layers=bounded) if bounded else None


def _native(text: Mapping[str, Any]) -> Precision:
    quantization = text.get("quantization_config")
    if not isinstance(quantization, Mapping):
        return Precision.BF16
    method = str(quantization.get("quant_method", ""))
    bits = quantization.get("bits")
    if method in ("gptq", "compressed-tensors", "bitsandbytes") and bits == 8:
        return Precision.INT8
    return _METHODS.get(method, Precision.BF16)
