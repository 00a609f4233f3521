"""A launch specification becomes the flags of `vllm serve`."""

import json

import msgspec
import pytest

from penstock.engines import LaunchSpec, get_engine

VLLM = get_engine("vllm")
SPEC = LaunchSpec(served_name="llama", weights="hf://org/llama@v1", task="Generate")


def _flags(**changes: object) -> list[str]:
    return VLLM.argv(msgspec.structs.replace(SPEC, **changes))


def _after(flags: list[str], name: str) -> str:
    return flags[flags.index(name) + 1]


def test_the_least_specification():
    assert _flags() == [
        *("--model", "hf://org/llama@v1"),
        *("--served-model-name", "llama"),
        *("--runner", "generate"),
        "--enable-prompt-tokens-details",
    ]


@pytest.mark.parametrize(
    ("changes", "flag", "value"),
    [
        ({"context_length": 4096}, "--max-model-len", "4096"),
        ({"quantization": "fp8"}, "--quantization", "fp8"),
        ({"quantization": "int8"}, "--quantization", "int8_per_channel_weight_only"),
        ({"kv_cache_dtype": "fp8"}, "--kv-cache-dtype", "fp8"),
        ({"tensor_parallel": 4}, "--tensor-parallel-size", "4"),
        ({"pipeline_parallel": 2}, "--pipeline-parallel-size", "2"),
        ({"data_parallel": 8}, "--data-parallel-size", "8"),
        ({"task": "Embed"}, "--runner", "pooling"),
        ({"task": "Embed"}, "--convert", "embed"),
        ({"on_cpu": True}, "--block-size", "128"),
        ({"on_cpu": True}, "--worker-extension-cls", "penstock_engine.amx.WorkerExtension"),
    ],
)
def test_each_field_has_its_flag(changes: dict[str, object], flag: str, value: str):
    assert flag not in _flags() or _after(_flags(), flag) != value
    assert _after(_flags(**changes), flag) == value


@pytest.mark.parametrize("quantization", ["awq", "gptq", "mxfp4"])
def test_what_the_checkpoint_says_is_not_said_again(quantization: str):
    assert "--quantization" not in _flags(quantization=quantization)


def test_speculative_decoding_is_configured_in_json():
    flags = _flags(speculative=(("method", "eagle3"), ("model", "org/draft"), ("num_speculative_tokens", "3")))
    assert json.loads(_after(flags, "--speculative-config")) == {
        "method": "eagle3",
        "model": "org/draft",
        "num_speculative_tokens": 3,
    }


def test_adapters_may_have_any_name():
    flags = _flags(adapters=(("sql", "file:///adapters/sql"), ("a=b", "hf://org/x")))
    at = flags.index("--lora-modules")
    assert flags[at - 1] == "--enable-lora"
    assert [json.loads(flag) for flag in flags[at + 1 : at + 3]] == [
        {"name": "sql", "path": "file:///adapters/sql"},
        {"name": "a=b", "path": "hf://org/x"},
    ]


def test_extra_arguments_come_last():
    extra = ("--block-size", "64")
    assert tuple(_flags(on_cpu=True, extra_args=extra)[-2:]) == extra


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"quantization": "gguf"}, ["'gguf'", "awq"]), ({"task": "Rerank"}, ["'Rerank'", "Embed"])],
)
def test_what_vllm_cannot_do_is_refused(changes: dict[str, object], words: list[str]):
    with pytest.raises(ValueError, match=words[0]) as caught:
        _flags(**changes)
    assert words[1] in str(caught.value)


def test_what_nobody_keeps_goes_to_the_scratch_folder():
    scratch = "/run/scratch"
    variables = VLLM.environment(SPEC, scratch=scratch)
    paths = {name for name, value in variables.items() if value.startswith(scratch)}
    assert paths == {"TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "VLLM_RPC_BASE_PATH"}
    assert not any(value.startswith("/") for value in VLLM.environment(SPEC).values())


def test_a_scratch_folder_that_sockets_cannot_live_in_is_refused():
    longest = "/" + "x" * 57
    assert VLLM.environment(SPEC, scratch=longest)["VLLM_RPC_BASE_PATH"].startswith(longest)
    with pytest.raises(ValueError, match="has 59 bytes"):
        VLLM.environment(SPEC, scratch=longest + "x")


def test_only_a_cpu_needs_to_be_told_about_threads():
    assert "OMP_NUM_THREADS" not in VLLM.environment(SPEC)
    on_cpu = VLLM.environment(msgspec.structs.replace(SPEC, on_cpu=True))
    assert (on_cpu["OMP_NUM_THREADS"], on_cpu["VLLM_CPU_OMP_THREADS_BIND"]) == ("1", "nobind")
