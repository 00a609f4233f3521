"""A tiny Llama with random weights, for demos and tests: what it writes is noise, made of printable ASCII."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from penstock.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRINTABLE_BYTES = range(0x20, 0x7F)
"""Byte values the model can write: one character of ASCII each, so that no answer is ever empty."""

BEGIN, END, TURN = "<|penstock:begin|>", "<|penstock:end|>", "<|penstock:turn|>"
SPECIAL_TOKENS = (BEGIN, END, TURN)
"""Their ids follow the 256 bytes. Nobody types them by chance, and the model never writes them."""

_ANCHOR = 4.0
"""Value of hidden dimension 0 for every token; no layer writes there, so it reaches the output as a constant."""
_NEVER = -200.0
"""Output weight from dimension 0 to whatever must not be written: a logit hundreds below all others."""
_LOGIT_SPREAD = 3.0
"""Standard deviation of the logits: enough that greedy answers wander, and sampled ones differ."""

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}" + TURN + "{{ message['role'] }}\n{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}" + TURN + "assistant\n{% endif %}"
)


class Geometry(msgspec.Struct, frozen=True, kw_only=True):
    """Shape of the model. The defaults take about a megabyte and a half in bfloat16.

    CPU attention kernels want a head size of 32 or a multiple of it.
    """

    layers: int = 2
    hidden: int = 128
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 32
    feed_forward: int = 256
    context_tokens: int = 16384
    vocabulary: int = 256 + len(SPECIAL_TOKENS)


def write_tiny_model(folder: Path, *, seed: int = 0, embed: bool = False, geometry: Geometry | None = None) -> Path:
    """Write a Hugging Face model folder: configuration, weights, tokenizer and chat template.

    Args:
        folder: Made if absent; files of the same names are replaced.
        seed: The same seed gives the same bytes.
        embed: Write a model without an output layer, which engines serve as an embedding model.
        geometry: Shape of the model.

    Returns:
        The folder.
    """
    geometry = geometry or Geometry()
    folder.mkdir(parents=True, exist_ok=True)
    documents = {
        "config.json": _config(geometry, embed=embed),
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": _tokenizer_config(geometry),
        "generation_config.json": {"bos_token_id": 256, "eos_token_id": 257, "do_sample": True, "temperature": 1.0},
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _write_weights(folder / "model.safetensors", _weights(geometry, seed=seed, embed=embed))
    return folder


def _config(geometry: Geometry, *, embed: bool) -> dict[str, object]:
    return {
        "architectures": ["LlamaModel" if embed else "LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": geometry.vocabulary,
        "hidden_size": geometry.hidden,
        "intermediate_size": geometry.feed_forward,
        "num_hidden_layers": geometry.layers,
        "num_attention_heads": geometry.heads,
        "num_key_value_heads": geometry.kv_heads,
        "head_dim": geometry.head_size,
        "max_position_embeddings": geometry.context_tokens,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 256,
        "eos_token_id": 257,
        "torch_dtype": "bfloat16",
    }


def _byte_characters() -> list[str]:
    """Return the 256 characters that stand for bytes in GPT-2's byte-level alphabet, in the order of the bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def _tokenizer() -> dict[str, object]:
    """Return a byte-pair tokenizer without any merge: each byte of UTF-8 is a token, whose id is the byte."""
    vocabulary = {character: byte for byte, character in enumerate(_byte_characters())}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": 256 + index,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index, content in enumerate(SPECIAL_TOKENS)
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }


def _tokenizer_config(geometry: Geometry) -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "additional_special_tokens": [TURN],
        "model_max_length": geometry.context_tokens,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _weights(geometry: Geometry, *, seed: int, embed: bool) -> dict[str, NDArray[np.float32]]:
    """Draw the weights; dimension 0 of the hidden state stays `_ANCHOR` from the first layer to the last."""
    import numpy as np  # noqa: PLC0415 - comes with the engine extras

    random = np.random.default_rng(seed)

    def normal(rows: int, columns: int, scale: float) -> NDArray[np.float32]:
        return (random.standard_normal((rows, columns)) * scale).astype(np.float32)

    hidden, narrow = geometry.hidden, 1.0 / math.sqrt(geometry.hidden)
    prefix = "" if embed else "model."
    weights = {f"{prefix}embed_tokens.weight": normal(geometry.vocabulary, hidden, 1.0)}
    weights[f"{prefix}embed_tokens.weight"][:, 0] = _ANCHOR
    for index in range(geometry.layers):
        layer = f"{prefix}layers.{index}."
        attention, feed_forward = layer + "self_attn.", layer + "mlp."
        weights[attention + "q_proj.weight"] = normal(geometry.heads * geometry.head_size, hidden, narrow)
        weights[attention + "k_proj.weight"] = normal(geometry.kv_heads * geometry.head_size, hidden, narrow)
        weights[attention + "v_proj.weight"] = normal(geometry.kv_heads * geometry.head_size, hidden, narrow)
        weights[attention + "o_proj.weight"] = normal(hidden, geometry.heads * geometry.head_size, narrow)
        weights[feed_forward + "gate_proj.weight"] = normal(geometry.feed_forward, hidden, narrow)
        weights[feed_forward + "up_proj.weight"] = normal(geometry.feed_forward, hidden, narrow)
        weights[feed_forward + "down_proj.weight"] = normal(hidden, geometry.feed_forward, narrow)
        for writer in (attention + "o_proj.weight", feed_forward + "down_proj.weight"):
            weights[writer][0, :] = 0.0
        for norm in ("input_layernorm.weight", "post_attention_layernorm.weight"):
            weights[layer + norm] = np.ones(hidden, dtype=np.float32)
    weights[f"{prefix}norm.weight"] = np.ones(hidden, dtype=np.float32)
    if not embed:
        output = normal(geometry.vocabulary, hidden, _LOGIT_SPREAD * narrow)
        output[:, 0] = _NEVER
        output[PRINTABLE_BYTES.start : PRINTABLE_BYTES.stop, 0] = 0.0
        weights["lm_head.weight"] = output
    return weights


def _write_weights(path: Path, weights: dict[str, NDArray[np.float32]]) -> None:
    """Write a safetensors file in bfloat16: the upper half of each float32, rounded to nearest."""
    from safetensors import TensorSpec, serialize_file  # noqa: PLC0415 - comes with the engine extras

    halves = {name: _bfloat16_bits(tensor) for name, tensor in weights.items()}
    specs = {
        name: TensorSpec(dtype="bfloat16", shape=list(half.shape), data_ptr=half.ctypes.data, data_len=half.nbytes)
        for name, half in halves.items()
    }
    serialize_file(specs, path, metadata={"format": "pt"})  # `halves` keeps the memory alive until here


def _bfloat16_bits(tensor: NDArray[np.float32]) -> NDArray[np.uint16]:
    import numpy as np  # noqa: PLC0415 - comes with the engine extras

    return np.ascontiguousarray((tensor.view(np.uint32) + 0x8000) >> 16).astype("<u2")


_FILES = frozenset(
    {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"}
)
"""What `write_tiny_model` writes: a folder with nothing else in it may be written again."""


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


@click.command("tiny-model")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option("--embed", is_flag=True, help="Write an embedding model instead of one that chats.")
def command(folder: Path, seed: int, embed: bool) -> None:
    """Write a tiny Llama with random weights to FOLDER. It answers any prompt with noise."""
    if seed < 0:
        raise UserError(f"--seed {seed} is negative: give 0 or more")
    try:
        stranger = next((child.name for child in _inside(folder) if child.name not in _FILES), None)
        if stranger is not None:
            raise UserError(f"{folder} holds other things, such as {stranger!r}: name a new or empty folder")
        write_tiny_model(folder, seed=seed, embed=embed)
    except ModuleNotFoundError as error:
        raise UserError(
            f"tiny-model needs {error.name}, which is absent: install penstock[engine-cpu] or penstock[engine-gpu]"
        ) from error
    except OSError as error:
        raise UserError(f"cannot write a model to {folder}: {error.strerror or error}") from error
    click.echo(f"{folder}: a tiny Llama with random weights (seed {seed}); what it writes is noise")
