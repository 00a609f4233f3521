"""vLLM's metrics page in one normal form, whatever the release."""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engines import EngineLoad, get_engine

PAGE = (Path(__file__).parent / "data" / "vllm-0.32.0-cpu.txt").read_bytes()
"""Captured from a replica on a CPU under load: 32 streams on 64 blocks of 128 tokens."""

CAPTURED = EngineLoad(
    kv_usage=0.9523809523809523,
    running=15,
    waiting=17,
    waiting_for_capacity=17,
    preemptions=36,
    prompt_tokens=14366,
    generation_tokens=23889,
    prefix_queries=14366,
    prefix_hits=256,
    kv_blocks=64,
    block_tokens=128,
    started_s=1795476776.64,
)

REQUIRED = (
    b"vllm:num_requests_running",
    b"vllm:num_requests_waiting",
    b"vllm:kv_cache_usage_perc",
    b"vllm:num_preemptions_total",
    b"vllm:prompt_tokens_total",
    b"vllm:generation_tokens_total",
)

parse = get_engine("vllm").parse_load


def _without(page: bytes, name: bytes) -> bytes:
    return b"\n".join(line for line in page.split(b"\n") if not re.match(re.escape(name) + rb"[{ ]", line))


def test_a_page_captured_under_load():
    assert parse(PAGE) == CAPTURED
    assert CAPTURED.kv_capacity_tokens == 8192


def test_an_old_page_has_older_names_and_no_reasons():
    old = (
        b'vllm:num_preemptions_total{model_name="m"} 3.0\n'
        b'vllm:num_requests_running{model_name="m"} 2.0\n'
        b'vllm:num_requests_waiting{model_name="m"} 5.0\n'
        b'vllm:gpu_cache_usage_perc{model_name="m"} 0.25\n'
        b'vllm:prompt_tokens_total{model_name="m"} 1e+03\n'
        b'vllm:generation_tokens_total{model_name="m"} 7.0\n'
        b'vllm:gpu_prefix_cache_queries_total{model_name="m"} 100.0\n'
        b'vllm:gpu_prefix_cache_hits_total{model_name="m"} 40.0\n'
    )
    assert parse(old) == EngineLoad(
        kv_usage=0.25,
        running=2,
        waiting=5,
        waiting_for_capacity=5,
        preemptions=3,
        prompt_tokens=1000,
        generation_tokens=7,
        prefix_queries=100,
        prefix_hits=40,
    )


def test_engines_of_one_replica_are_added_up_and_their_usage_averaged():
    def second(match: re.Match[bytes]) -> bytes:
        line = match.group(0)
        return line + b"\n" + line.replace(b'engine="0"', b'engine="1"')

    both, one = parse(re.sub(rb"(?m)^vllm:.*engine=\"0\".*$", second, PAGE)), parse(PAGE)
    assert both.kv_usage == pytest.approx(one.kv_usage)
    assert both.kv_blocks == 2 * (one.kv_blocks or 0)
    assert both.block_tokens == one.block_tokens
    for field in ("running", "waiting", "waiting_for_capacity", "preemptions", "prompt_tokens", "generation_tokens"):
        assert getattr(both, field) == 2 * getattr(one, field)


def test_the_order_of_metrics_does_not_matter():
    groups = re.split(rb"(?m)^(?=# HELP)", PAGE)
    assert parse(b"".join(reversed(groups))) == parse(PAGE)


def test_deferred_requests_do_not_wait_for_capacity():
    page = PAGE.replace(b'reason="capacity"', b'reason="x"').replace(b'reason="deferred"', b'reason="capacity"')
    assert parse(page).waiting_for_capacity == 0
    assert parse(page).waiting == CAPTURED.waiting


def test_without_cache_information_the_capacity_is_unknown():
    load = parse(_without(PAGE, b"vllm:cache_config_info"))
    assert (load.kv_blocks, load.block_tokens, load.kv_capacity_tokens) == (None, None, None)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_metric_is_named(name: bytes):
    with pytest.raises(ValueError, match=name.decode()):
        parse(_without(PAGE, name))


@pytest.mark.parametrize("page", [b"", b"\n", b"<html>not metrics</html>", b"vllm:num_requests_running"])
def test_what_is_no_metrics_page_is_refused(page: bytes):
    with pytest.raises(ValueError, match="vllm:num_requests_running"):
        parse(page)


@pytest.mark.parametrize("value", [b"NaN", b"+Inf", b"1e300", b"many", b""])
def test_a_value_that_is_no_number_is_refused(value: bytes):
    page = re.sub(rb"(?m)^(vllm:kv_cache_usage_perc\{.*\}) .*$", rb"\g<1> " + value, PAGE)
    with pytest.raises(ValueError, match="vllm:kv_cache_usage_perc"):
        parse(page)


@settings(deadline=None)
@given(cut=st.integers(0, len(PAGE)), noise=st.binary(max_size=40), length=st.integers(0, 200))
def test_a_damaged_page_gives_a_load_or_names_a_metric(cut: int, noise: bytes, length: int):
    _parses_or_names(PAGE[:cut] + noise + PAGE[cut + length :])


@settings(deadline=None)
@given(
    page=st.binary() | st.lists(st.sampled_from([*REQUIRED, b"{", b"}", b" ", b"1", b"\n", b'"', b'a="'])).map(b"".join)
)
def test_any_bytes_give_a_load_or_name_a_metric(page: bytes):
    _parses_or_names(page)


def _parses_or_names(page: bytes) -> None:
    told = ""
    try:
        load = parse(page)
    except ValueError as error:
        told = str(error)
    assert "vllm:" in told or msgspec.convert(msgspec.to_builtins(load), EngineLoad) == load
