import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api import Degrees, parse_resource
from penstock.catalog import (
    EngineLimits,
    Geometry,
    Precision,
    accelerator_classes,
    assess,
    engine_limits,
    kv_bytes_per_sequence,
    kv_bytes_per_token,
    memory_budget,
    models,
)
from penstock.catalog.geometry import Window
from penstock.catalog.limits import EngineArgumentError
from penstock.catalog.memory import kv_share

CLASSES = {accelerator.name: accelerator for accelerator in accelerator_classes()}


def budget(name, accelerator, tensor=1, **options):
    return memory_budget(models()[name].geometry, CLASSES[accelerator], Degrees(tensor, 1, 1), **options)


def a_class(gib):
    spec = {"vendor": "v", "memory": f"{gib}Gi"}
    return parse_resource(
        {"apiVersion": "penstock.dev/v1alpha1", "kind": "AcceleratorClass", "metadata": {"name": "a"}, "spec": spec}
    )


def a_model(**spec):
    metadata = {"name": "m"}
    return parse_resource({"apiVersion": "penstock.dev/v1alpha1", "kind": "Model", "metadata": metadata, "spec": spec})


def fit(preset, accelerator, **spec):
    model = a_model(preset=preset, accelerator=accelerator, **spec)
    return assess(model, models()[preset].geometry, model.placements[0], CLASSES.values())


@pytest.mark.parametrize(
    ("name", "accelerator", "tensor", "precision", "tokens"),
    [
        ("llama-3.1-8b", "nvidia-l4", 1, None, 26_000),
        ("llama-3.1-8b", "nvidia-l40s", 1, None, 163_000),
        ("llama-3.1-8b", "nvidia-a100-40gb", 1, None, 126_000),
        ("llama-3.1-8b", "nvidia-h100", 1, None, 421_000),
        ("llama-3.1-8b", "nvidia-h200", 1, None, 797_000),
        ("llama-3.1-70b", "nvidia-h100", 2, Precision.FP8, 220_000),
        ("llama-3.1-70b", "nvidia-h100", 4, None, 439_000),
        ("llama-3.1-70b", "nvidia-h200", 1, Precision.FP8, 153_000),
        ("llama-3.1-70b", "nvidia-h200", 2, None, 305_000),
        ("qwen3-32b", "nvidia-h100", 1, Precision.FP8, 147_000),
        ("qwen3-32b", "nvidia-h100", 2, None, 294_000),
    ],
)
def test_the_cache_holds_what_the_survey_computed(name, accelerator, tensor, precision, tokens):
    # 6 percent: the survey stores embeddings in fp8 too, and reserves 0.15 GiB where ranks talk (0.6 here).
    assert budget(name, accelerator, tensor, precision=precision).kv_tokens == pytest.approx(tokens, rel=0.06)


def test_qwen3_32b_leaves_one_h100_little():
    assert budget("qwen3-32b", "nvidia-h100").concurrency(4000, 1000) <= 6


def test_latent_cache_is_whole_on_every_tensor_rank_and_heads_repeat_beyond_their_number():
    deepseek, llama = models()["deepseek-v3"].geometry, models()["llama-3.1-8b"].geometry
    assert kv_share(deepseek, 8, 1) == 1
    assert kv_share(llama, 8, 1) == kv_share(llama, 16, 1) == 1 / 8
    assert kv_share(llama, 2, 4) == 1 / 8


def test_bounded_layers_keep_no_more_than_their_window():
    geometry = models()["gpt-oss-120b"].geometry
    per_token = kv_bytes_per_token(geometry)
    assert kv_bytes_per_sequence(geometry, 128) == 128 * per_token
    assert kv_bytes_per_sequence(geometry, 1128) - kv_bytes_per_sequence(geometry, 128) == 1000 * per_token // 2


def test_the_engines_own_limits_are_kept():
    limits = engine_limits(
        ["--block-size", "128", "--num-gpu-blocks-override=64", "--max-num-seqs", "4", "--enforce-eager"]
    )
    assert limits == EngineLimits(block_tokens=128, blocks=64, sequences=4)
    plan = budget("llama-3.1-8b", "nvidia-h100", limits=limits)
    assert (plan.kv_tokens, plan.blocks, plan.largest_context) == (8192, 64, 8192)
    assert plan.concurrency(10, 10) == 4


@pytest.mark.parametrize("args", [["--block-size"], ["--max-num-seqs", "0"], ["--gpu-memory-utilization", "2"]])
def test_an_impossible_engine_argument_is_named(args):
    with pytest.raises(EngineArgumentError, match=args[0]):
        engine_limits(args)


def test_a_model_that_fits_needs_no_remedy():
    found = fit("llama-3.1-8b", "nvidia-h100:1")
    assert found.fits
    assert found.remedies == ()


def test_remedies_are_found_by_trying_them():
    found = fit("llama-3.1-8b", "nvidia-l4:1")
    assert not found.fits
    assert all(remedy.budget.fits for remedy in found.remedies)
    said = {remedy.field: remedy.value for remedy in found.remedies}
    longest = int(said["spec.contextLength"])
    assert fit("llama-3.1-8b", "nvidia-l4:1", contextLength=longest).fits
    assert not fit("llama-3.1-8b", "nvidia-l4:1", contextLength=longest + 16).fits
    values = [remedy.value for remedy in found.remedies if remedy.field == "spec.accelerator"]
    assert len(values) == 2
    for value in values:
        assert fit("llama-3.1-8b", value).fits


def test_more_accelerators_are_the_fewest_that_divide_the_heads():
    values = [remedy.value for remedy in fit("llama-3.1-70b", "nvidia-h100:1").remedies]
    assert "nvidia-h100:4" in values
    assert (
        fit("llama-3.1-70b", "nvidia-h100:3").problem
        == "tensor parallelism 3 does not divide the model's 64 attention heads"
    )


@pytest.mark.parametrize(
    ("name", "placement", "heads"), [("phi-4", "nvidia-h100:4", 10), ("qwen2.5-7b", "nvidia-h100:7", 4)]
)
def test_key_value_heads_that_ranks_cannot_share_do_not_fit(name, placement, heads):
    found = fit(name, placement)
    assert not found.fits
    assert f"{heads} key-value heads" in (found.problem or "")


def test_key_value_heads_are_split_or_repeated_where_that_is_even():
    assert all(fit("llama-3.1-8b", f"nvidia-h100:{count}").fits for count in (2, 8, 16))
    assert fit("phi-4", "nvidia-h100:10").fits
    assert fit("deepseek-v3", "nvidia-h200:16").fits


def test_an_engine_on_processors_has_the_cache_it_is_told_of_whatever_the_memory():
    env = [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "2"}]
    assert fit("llama-3.2-1b", "cpu:4", contextLength=32768).fits
    found = fit("llama-3.2-1b", "cpu:4", contextLength=40000)
    assert found.problem == "the cache holds sequences of 32768 tokens, not of 40000"
    assert fit("llama-3.2-1b", "cpu:4", contextLength=40000, env=env).fits


@pytest.mark.parametrize("args", [["--tensor-parallel-size", "2"], ["-tp=2"], ["--max_model_len", "4096"]])
def test_what_a_field_says_is_not_said_by_an_argument(args):
    with pytest.raises(EngineArgumentError, match=r"set spec\.\w+"):
        fit("llama-3.1-8b", "nvidia-h100:1", engine={"args": args})


def test_a_context_beyond_the_model_is_told():
    found = fit("phi-3-mini", "nvidia-h100:1", contextLength=8192)
    assert "4096" in (found.problem or "")
    assert [remedy.value for remedy in found.remedies if remedy.field == "spec.contextLength"] == ["4096"]


def test_nothing_helps_what_is_far_too_large():
    assert fit("kimi-k2.5", "nvidia-l4:1").remedies == ()


def test_the_tiny_model_fits_the_processor():
    assert fit("tiny-random", "cpu:1", contextLength=4096).fits


@st.composite
def geometries(draw):
    kv_heads = draw(st.sampled_from([1, 2, 4, 8]))
    layers = draw(st.integers(1, 64))
    window = draw(st.none() | st.builds(Window, tokens=st.integers(1, 4096), layers=st.integers(1, layers)))
    return Geometry(
        layers=layers,
        hidden=draw(st.sampled_from([128, 1024, 4096])),
        heads=kv_heads * draw(st.sampled_from([1, 2, 8])),
        kv_heads=kv_heads,
        head_size=draw(st.sampled_from([32, 64, 128])),
        ffn=draw(st.integers(1, 20000)),
        vocabulary=draw(st.integers(1, 200_000)),
        context=draw(st.integers(1, 200_000)),
        window=window,
    )


@given(geometries(), st.integers(4, 200), st.integers(0, 200))
def test_more_memory_never_holds_less(geometry, gib, more):
    small, large = (memory_budget(geometry, a_class(size), Degrees(1, 1, 1)) for size in (gib, gib + more))
    assert small.kv_tokens <= large.kv_tokens or gib < 30 <= gib + more
    assert not small.fits or large.fits or gib < 30 <= gib + more


@given(geometries(), st.integers(40, 200))
def test_fewer_bits_never_hold_less(geometry, gib):
    one = Degrees(1, 1, 1)
    sixteen = memory_budget(geometry, a_class(gib), one)
    eight = memory_budget(geometry, a_class(gib), one, precision=Precision.FP8)
    four = memory_budget(geometry, a_class(gib), one, precision=Precision.INT4)
    cached = memory_budget(geometry, a_class(gib), one, kv_dtype="fp8")
    assert sixteen.kv_tokens <= eight.kv_tokens <= four.kv_tokens
    assert sixteen.kv_tokens <= cached.kv_tokens


@given(geometries(), st.integers(40, 200), st.integers(1, 5000), st.integers(1, 5000))
def test_longer_requests_never_run_in_greater_number(geometry, gib, prompt, output):
    plan = memory_budget(geometry, a_class(gib), Degrees(1, 1, 1))
    worst = plan.concurrency(prompt, output, finished=True)
    assert worst <= plan.concurrency(prompt, output) <= plan.concurrency(prompt, 1)
    assert worst * kv_bytes_per_sequence(geometry, prompt + output) <= max(0, plan.kv_bytes)


@given(geometries(), st.integers(40, 200))
def test_the_largest_context_is_where_one_sequence_stops_fitting(geometry, gib):
    plan = memory_budget(geometry, a_class(gib), Degrees(1, 1, 1))
    assert plan.largest_context == 0 or plan.concurrency(plan.largest_context, 0) >= 1
    assert plan.largest_context == geometry.context or plan.concurrency(plan.largest_context + 1, 0) == 0
