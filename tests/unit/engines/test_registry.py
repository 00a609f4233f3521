"""An engine is asked for by name; a name without an adapter says which there are."""

import pytest

from penstock.engines import ENGINES, UnknownEngineError, get_engine


def test_every_engine_is_found_by_its_own_name():
    for name, engine in ENGINES.items():
        assert get_engine(name) is engine
        assert engine.name == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vlm", ["'vlm'", "did you mean 'vllm'?"]),
        ("VLLM", ["did you mean 'vllm'?"]),
        ("sglang", ["SGLang", "no adapter in this version"]),
        ("tensorrt-llm", ["TensorRT-LLM", "no adapter"]),
        ("", ["''"]),
        ("quake", ["'quake'"]),
    ],
)
def test_an_unknown_engine_is_named_with_those_there_are(name: str, words: list[str]):
    with pytest.raises(UnknownEngineError) as caught:
        get_engine(name)
    for word in [*words, "use one of: vllm"]:
        assert word in str(caught.value)
