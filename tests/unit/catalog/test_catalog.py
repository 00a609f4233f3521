import pytest

from penstock.api import Purchase
from penstock.catalog import Precision, accelerator_classes, from_config, kv_bytes_per_token, models, weight_bytes
from penstock.catalog.config import ConfigError

# Published or computed elsewhere from config.json: bytes of cache a token at 16 bits.
KV_BYTES = {
    "llama-3.1-8b": 131_072,
    "llama-3.1-70b": 327_680,
    "llama-3.1-405b": 516_096,
    "llama-3.2-1b": 32_768,
    "llama-3.2-3b": 114_688,
    "qwen2.5-0.5b": 12_288,
    "qwen2.5-1.5b": 28_672,
    "qwen2.5-3b": 36_864,
    "qwen2.5-7b": 57_344,
    "qwen2.5-14b": 196_608,
    "qwen2.5-32b": 262_144,
    "qwen2.5-72b": 327_680,
    "qwen3-0.6b": 114_688,
    "qwen3-1.7b": 114_688,
    "qwen3-4b": 147_456,
    "qwen3-8b": 147_456,
    "qwen3-14b": 163_840,
    "qwen3-32b": 262_144,
    "qwen3-30b-a3b": 98_304,
    "qwen3-235b-a22b": 192_512,
    "qwen3-coder-480b-a35b": 253_952,
    "mistral-7b": 131_072,
    "mistral-nemo-12b": 163_840,
    "mistral-large-2407": 360_448,
    "mixtral-8x7b": 131_072,
    "mixtral-8x22b": 229_376,
    "gemma-2-2b": 106_496,
    "gemma-2-9b": 344_064,
    "gemma-2-27b": 376_832,
    "gemma-3-1b": 26_624,
    "gemma-3-4b": 139_264,
    "gemma-3-12b": 393_216,
    "gemma-3-27b": 507_904,
    "phi-3-mini": 393_216,
    "phi-3-small": 131_072,
    "phi-3-medium": 204_800,
    "phi-4": 204_800,
    "phi-4-mini": 131_072,
    "command-r-plus": 262_144,
    "deepseek-v3": 70_272,
    "deepseek-r1": 70_272,
    "kimi-k2.5": 70_272,
    "gpt-oss-120b": 73_728,
    "gpt-oss-20b": 49_152,
}
ACTIVE = {
    "qwen3-30b-a3b": 3.4e9,
    "qwen3-235b-a22b": 22.2e9,
    "mixtral-8x7b": 12.9e9,
    "deepseek-v3": 37e9,
    "kimi-k2.5": 32e9,
}


@pytest.mark.parametrize("name", sorted(models()))
def test_geometry_gives_the_parameters_that_the_publisher_states(name):
    # 1.5 percent: publishers round, and biases and small norms are left out.
    entry = models()[name]
    assert entry.geometry.parameters == pytest.approx(entry.stated_parameters, rel=0.015)


@pytest.mark.parametrize(("name", "size"), KV_BYTES.items())
def test_cache_bytes_per_token_match_the_published_table(name, size):
    assert kv_bytes_per_token(models()[name].geometry) == size
    assert kv_bytes_per_token(models()[name].geometry, "fp8") * 2 == size


@pytest.mark.parametrize(("name", "active"), ACTIVE.items())
def test_active_parameters_match_what_is_published(name, active):
    assert models()[name].geometry.active_parameters == pytest.approx(active, rel=0.03)


@pytest.mark.parametrize(
    ("name", "precision", "gigabytes"),
    [
        ("llama-3.1-8b", Precision.BF16, 16.06),
        ("llama-3.1-8b", Precision.FP8, 9.08),
        ("llama-3.1-8b", Precision.INT4, 5.73),
        ("llama-3.1-8b", Precision.Q4_K_M, 4.92),
        ("gpt-oss-120b", Precision.MXFP4, 65.2),
        ("gpt-oss-20b", Precision.MXFP4, 13.8),
        ("kimi-k2.5", Precision.INT4_EXPERTS, 595.0),
    ],
)
def test_weights_match_the_size_of_published_checkpoints(name, precision, gigabytes):
    assert weight_bytes(models()[name].geometry, precision) / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_every_accelerator_but_processors_has_a_price_with_its_source():
    for accelerator in accelerator_classes():
        price = accelerator.spec.price
        assert (price is None) == accelerator.is_cpu
        assert price is None or (price.source and accelerator.usd_per_hour() > 0)


def test_a_missing_price_says_where_to_put_one():
    by_name = {accelerator.name: accelerator for accelerator in accelerator_classes()}
    with pytest.raises(ValueError, match=r"spec\.price\.onDemandPerHour"):
        by_name["cpu"].usd_per_hour()
    with pytest.raises(ValueError, match=r"spec\.price\.spotPerHour"):
        by_name["nvidia-b200"].usd_per_hour(Purchase.SPOT)


LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
DEEPSEEK = {
    "num_hidden_layers": 61,
    "hidden_size": 7168,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "head_dim": 128,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "first_k_dense_replace": 3,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "quantization_config": {"quant_method": "fp8"},
}


@pytest.mark.parametrize(("config", "name"), [(LLAMA, "llama-3.1-8b"), (DEEPSEEK, "deepseek-v3")])
def test_a_config_file_gives_the_geometry_that_the_catalog_has(config, name):
    assert from_config(config) == models()[name].geometry


def test_windows_are_read_in_each_form():
    gemma2 = from_config(LLAMA | {"model_type": "gemma2", "sliding_window": 4096})
    gemma3 = from_config({"text_config": LLAMA | {"sliding_window": 1024, "sliding_window_pattern": 6}})
    listed = from_config(LLAMA | {"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 16})
    unused = from_config(LLAMA | {"sliding_window": 128, "use_sliding_window": False})
    assert [g.window and g.window.layers for g in (gemma2, gemma3, listed, unused)] == [16, 27, 16, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"hidden_size": "4096"}, "hidden_size '4096'"),
        ({"num_key_value_heads": 5}, "not a multiple of kv_heads 5"),
    ],
)
def test_a_config_file_without_a_size_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        from_config(LLAMA | change)
