"""Which engines there are, by the name that `Model.spec.engine.name` uses."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from penstock.engines.base import Engine
from penstock.engines.vllm import VLLM

ENGINES: Mapping[str, Engine] = MappingProxyType({"vllm": VLLM})
"""Adapters that are built in."""

PLANNED: Mapping[str, str] = MappingProxyType(
    {
        "sglang": "SGLang",
        "tensorrt-llm": "TensorRT-LLM",
        "llama.cpp": "llama.cpp",
        "ollama": "Ollama",
        "tgi": "Text Generation Inference",
    }
)
"""Engines whose names are kept for adapters to come."""


class UnknownEngineError(ValueError):
    """There is no adapter of that name; the message lists those there are."""


def get_engine(name: str) -> Engine:
    """Return the adapter of an engine.

    Args:
        name: As in `Model.spec.engine.name`, in lower case.

    Raises:
        UnknownEngineError: no adapter has that name.
    """
    if name in ENGINES:
        return ENGINES[name]
    available = ", ".join(ENGINES)
    if name in PLANNED:
        raise UnknownEngineError(
            f"engine {name!r}: {PLANNED[name]} has no adapter in this version; use one of: {available}"
        )
    close = get_close_matches(name.lower(), [*ENGINES, *PLANNED], n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise UnknownEngineError(f"engine {name!r} is unknown{hint}; use one of: {available}")
