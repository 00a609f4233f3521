"""Token work: it adds up, its neutral ratios are the step model's, and measured weights are found again."""

import random
from itertools import product
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.performance.work import (
    NEUTRAL,
    BusyInterval,
    RequestShape,
    WorkWeights,
    calibrate,
    split_work,
    step_costs,
    weights_from_steps,
    work_of,
)

tokens = st.integers(0, 200_000)


def llama_8b(flops, bandwidth):
    """Llama 3.1 8B in bf16 on one accelerator."""
    return step_costs(
        parameters=8.03e9,
        weight_bytes=15.0 * 2**30,
        layers=32,
        heads=32,
        head_size=128,
        kv_bytes_per_token=131_072,
        flops=flops,
        bandwidth_bytes_per_s=bandwidth,
    )


H100 = llama_8b(989e12, 3.35e12)
A100 = llama_8b(312e12, 2.0e12)
L40S = llama_8b(362e12, 0.864e12)
LLAMA_70B_FP8_ON_TWO_H100 = step_costs(
    parameters=70.55e9,
    weight_bytes=65.7 * 2**30,
    layers=80,
    heads=64,
    head_size=128,
    kv_bytes_per_token=327_680,
    flops=1979e12,
    bandwidth_bytes_per_s=3.35e12,
    accelerators=2,
)
WORKLOADS = [(1155, 211), (2048, 28), (1600, 1690), (12035, 343)]


@settings(deadline=None)
@given(tokens, tokens, tokens)
def test_parts_add_up_to_the_whole(prompt, cached, completion):
    split = split_work(prompt, cached, completion)
    assert split.prompt + split.cached + split.completion == work_of(prompt, cached, completion)
    assert min(split.prompt, split.cached, split.completion) >= 0


@settings(deadline=None)
@given(tokens, tokens, tokens, tokens)
def test_more_tokens_are_more_work_and_cached_ones_less(prompt, cached, completion, more):
    assert work_of(prompt + more, cached, completion) >= work_of(prompt, min(cached, prompt), completion) - 1e-6
    assert work_of(prompt, cached + more, completion) <= work_of(prompt, cached, completion) + 1e-6


def test_neutral_ratios_are_the_step_models_medians():
    weights = [
        weights_from_steps(costs, RequestShape(prompt_tokens=prompt, completion_tokens=completion, running=32))
        for costs, (prompt, completion) in product((H100, A100, L40S, LLAMA_70B_FP8_ON_TWO_H100), WORKLOADS)
    ]
    completions = [each.completion / each.prompt for each in weights]
    cached = [each.cached / each.prompt for each in weights]
    assert round(median(completions)) == NEUTRAL.completion
    assert round(median(cached), 1) == NEUTRAL.cached
    assert (round(min(completions), 1), round(max(completions))) == (2.4, 12)
    assert (round(min(cached), 2), round(max(cached), 2)) == (0.03, 0.84)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_requests_work_is_its_share_of_the_steps_it_takes_part_in(workload):
    prompt, completion = workload
    running = 32
    weights = weights_from_steps(
        H100, RequestShape(prompt_tokens=prompt, completion_tokens=completion, running=running)
    )
    prefill_s = H100.token_s * prompt + H100.attention_s * prompt * prompt / 2
    decode_s = sum(
        H100.fixed_s / running + H100.token_s + H100.request_s + H100.kv_s * (prompt + made)
        for made in range(completion)
    )
    assert work_of(prompt, 0, completion, weights) == pytest.approx(prefill_s + decode_s, rel=0.01)


def test_weights_need_somebody_to_share_the_step():
    with pytest.raises(ValueError, match="running is 0"):
        weights_from_steps(H100, RequestShape(prompt_tokens=1, completion_tokens=1, running=0))


def busy(count, *, prompt_s=2e-4, completion_s=1e-3, seed=1, tied=False):
    rng = random.Random(seed)  # noqa: S311 - a seeded test load
    intervals = []
    for _ in range(count):
        uncached = rng.uniform(100, 4_000)
        completion = uncached / 2 if tied else rng.uniform(100, 900)
        seconds = (uncached * prompt_s + completion * completion_s) * rng.uniform(0.95, 1.05)
        intervals.append(BusyInterval(seconds=seconds, uncached_tokens=uncached, completion_tokens=completion))
    return intervals


def test_calibration_finds_what_the_engine_spends():
    weights = calibrate(busy(60))
    assert weights is not None
    assert weights.prompt == pytest.approx(2e-4, rel=0.1)
    assert weights.completion == pytest.approx(1e-3, rel=0.1)
    assert weights.cached / weights.prompt == pytest.approx(NEUTRAL.cached / NEUTRAL.prompt)


@pytest.mark.parametrize("intervals", [[], busy(19), busy(60, tied=True), busy(60, prompt_s=-1e-4)])
def test_calibration_says_when_it_cannot_tell(intervals):
    assert calibrate(intervals) is None


def test_weights_change_the_split():
    free_cache = WorkWeights(prompt=1, completion=1, cached=0, provenance="test")
    assert work_of(100, 100, 1, free_cache) == 1
