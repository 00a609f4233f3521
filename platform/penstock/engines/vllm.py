"""vLLM: the flags of `vllm serve`, and its `/metrics` in the names of today and of the releases before.

Flags: https://docs.vllm.ai/en/latest/configuration/serve_args.html. Metrics: https://docs.vllm.ai/en/latest/usage/metrics/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from penstock.engines.base import Engine, EngineLoad, LaunchSpec
from penstock.engines.prometheus import MetricsPage, parse_labels

CPU_BLOCK_TOKENS = 128
"""KV block size on CPUs, where attention kernels want a multiple of 32."""
LONGEST_SCRATCH_BYTES = 58
"""A socket's path has at most 107 bytes, and vLLM needs `/temporary/` and the 36 of a UUID for its own."""
AMX_EXTENSION = "penstock_engine.amx.WorkerExtension"

_QUANTIZATION_FLAG: Mapping[str, str | None] = MappingProxyType(
    {
        "fp8": "fp8",
        "int8": "int8_per_channel_weight_only",
        # These are properties of a checkpoint, which vLLM reads from its configuration. Naming one would only turn a
        # relative of it (gptq_marlin, gpt_oss_mxfp4) into an error.
        "awq": None,
        "gptq": None,
        "mxfp4": None,
    }
)


class VLLMEngine:
    """Adapter of vLLM 0.19 and later; its metrics page is understood from 0.6 on."""

    name = "vllm"
    readiness_path = "/health"
    metrics_path = "/metrics"

    def argv(self, spec: LaunchSpec) -> list[str]:
        """Return flags for `vllm serve`. The extra arguments come last, so that a user's word wins.

        Raises:
            ValueError: vLLM cannot run this; the message names the field and the remedy.
        """
        flags = ["--model", spec.weights, "--served-model-name", spec.served_name]
        flags += _task_flags(spec.task)
        if spec.context_length is not None:
            flags += ["--max-model-len", str(spec.context_length)]
        flags += _quantization_flags(spec.quantization)
        if spec.kv_cache_dtype is not None:
            flags += ["--kv-cache-dtype", spec.kv_cache_dtype]
        for flag, degree in (
            ("--tensor-parallel-size", spec.tensor_parallel),
            ("--pipeline-parallel-size", spec.pipeline_parallel),
            ("--data-parallel-size", spec.data_parallel),
        ):
            if degree > 1:
                flags += [flag, str(degree)]
        if spec.speculative:
            flags += ["--speculative-config", _speculative_config(spec.speculative)]
        if spec.adapters:
            flags += ["--enable-lora", "--lora-modules"]
            flags += [json.dumps({"name": name, "path": weights}) for name, weights in spec.adapters]
        flags.append("--enable-prompt-tokens-details")  # without it, usage has no cached tokens to price
        if spec.on_cpu:
            flags += ["--block-size", str(CPU_BLOCK_TOKENS), "--worker-extension-cls", AMX_EXTENSION]
        return [*flags, *spec.extra_args]

    def environment(self, spec: LaunchSpec, *, scratch: str | None = None) -> dict[str, str]:
        """Return the environment variables that a replica needs: see the protocol.

        Raises:
            ValueError: the scratch folder's path is too long for the Unix sockets that vLLM puts below it.
        """
        variables = {
            "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",  # vLLM's app does not block: a thread between costs 12 %
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        }
        if spec.on_cpu:
            variables |= {
                "OMP_NUM_THREADS": "1",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # vLLM's own choice pins every replica to the same cores
                "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; plans count on it (`penstock.catalog.budget.CPU_CACHE_GIB`)
            }
        if scratch is not None:
            if len(scratch.encode()) > LONGEST_SCRATCH_BYTES:
                raise ValueError(
                    f"scratch folder {scratch}: its path has {len(scratch.encode())} bytes, and Unix sockets below it "
                    f"leave room for {LONGEST_SCRATCH_BYTES}; choose a shorter one"
                )
            variables |= {
                "TMPDIR": f"{scratch}/temporary",
                "TORCHINDUCTOR_CACHE_DIR": f"{scratch}/inductor",
                "VLLM_RPC_BASE_PATH": f"{scratch}/temporary",
            }
        return variables

    def parse_load(self, metrics: bytes) -> EngineLoad:
        """Read an answer of `/metrics`; engines of one replica (data parallelism) are added up.

        Raises:
            ValueError: a metric that every version has is absent or is no number; the message names it.
        """
        page = MetricsPage(metrics)
        running = page.total(b"vllm:num_requests_running")
        waiting = page.total(b"vllm:num_requests_waiting")
        by_reason = page.samples(b"vllm:num_requests_waiting_by_reason")
        capacity = [value for labels, value in by_reason if b'reason="capacity"' in labels]
        usage = page.required(b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc")
        queries = page.total(b"vllm:prefix_cache_queries_total", b"vllm:gpu_prefix_cache_queries_total", default=0)
        hits = page.total(b"vllm:prefix_cache_hits_total", b"vllm:gpu_prefix_cache_hits_total", default=0)
        preemptions = page.total(b"vllm:num_preemptions_total")
        prompt_tokens = page.total(b"vllm:prompt_tokens_total")
        generation_tokens = page.total(b"vllm:generation_tokens_total")
        kv_blocks, block_tokens = _kv_cache(page)
        return EngineLoad(
            kv_usage=sum(value for _, value in usage) / len(usage),
            running=int(running),
            waiting=int(waiting),
            waiting_for_capacity=int(sum(capacity) if capacity else waiting),
            preemptions=int(preemptions),
            prompt_tokens=int(prompt_tokens),
            generation_tokens=int(generation_tokens),
            prefix_queries=int(queries),
            prefix_hits=int(hits),
            kv_blocks=kv_blocks,
            block_tokens=block_tokens,
            started_s=_started_s(page),
        )


VLLM: Engine = VLLMEngine()


def _task_flags(task: str) -> list[str]:
    if task == "Generate":
        return ["--runner", "generate"]
    if task == "Embed":
        return ["--runner", "pooling", "--convert", "embed"]
    raise ValueError(f"task {task!r}: vLLM serves Generate or Embed")


def _quantization_flags(quantization: str | None) -> list[str]:
    if quantization is None:
        return []
    if quantization not in _QUANTIZATION_FLAG:
        known = ", ".join(_QUANTIZATION_FLAG)
        raise ValueError(f"quantization {quantization!r}: vLLM takes {known}; choose one, or weights in one of them")
    method = _QUANTIZATION_FLAG[quantization]
    return [] if method is None else ["--quantization", method]


def _speculative_config(pairs: tuple[tuple[str, str], ...]) -> str:
    """Return vLLM's speculative configuration as JSON; values that look like whole numbers become numbers."""
    return json.dumps({key: int(value) if value.isdecimal() else value for key, value in pairs})


def _kv_cache(page: MetricsPage) -> tuple[int | None, int | None]:
    """Return the KV cache's blocks over all engines, and tokens per block, when the page says so."""
    blocks, block_tokens = 0, None
    for text, _ in page.samples(b"vllm:cache_config_info"):
        info = parse_labels(text)
        # CPU workers fill their one cache in the GPU's place; an override is what the engine really made
        blocks += _whole(info.get("num_gpu_blocks_override")) or _whole(info.get("num_gpu_blocks")) or 0
        block_tokens = _whole(info.get("block_size")) or block_tokens
    return blocks or None, block_tokens


def _started_s(page: MetricsPage) -> float | None:
    """Return when the process began; a page without it, or with nonsense there, says all else as well."""
    try:
        return page.total(b"process_start_time_seconds", default=0) or None
    except ValueError:
        return None


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 19 else None
