"""What a Model's engine arguments say about memory, as far as planning needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.catalog.budget import GIB, EngineLimits

CPU_CACHE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"
"""What vLLM reads the size of its cache on processors from, in whole GiB."""

_FIELDS = {
    "--tensor-parallel-size": "spec.parallelism.tensor",
    "-tp": "spec.parallelism.tensor",
    "--pipeline-parallel-size": "spec.parallelism.pipeline",
    "-pp": "spec.parallelism.pipeline",
    "--data-parallel-size": "spec.parallelism.data",
    "-dp": "spec.parallelism.data",
    "--max-model-len": "spec.contextLength",
}
"""Flags that would make accelerators and memory something else than what a Model's own fields say."""


class EngineArgumentError(ValueError):
    """An engine argument whose value no engine could take."""


def engine_limits(args: Sequence[str], env: Mapping[str, str] | None = None) -> EngineLimits:
    """Read the flags of vLLM that size memory; others are ignored, and the last of a repeated flag counts.

    Args:
        args: `spec.engine.args`.
        env: `spec.env`, values by name.

    Raises:
        EngineArgumentError: a flag has no value or an impossible one, or says what a field is for; the message names
            it.
    """
    values = _flags(args)
    if taken := [flag for flag in values if flag in _FIELDS]:
        flag = taken[0]
        raise EngineArgumentError(f"spec.engine.args has {flag}: set {_FIELDS[flag]} instead, which is planned with")
    defaults = EngineLimits()
    cache_gib = _whole(env or {}, CPU_CACHE_VARIABLE)
    utilization = _number(values, "--gpu-memory-utilization")
    if utilization is not None and not 0 < utilization <= 1:
        raise EngineArgumentError(f"--gpu-memory-utilization {utilization} is not in (0, 1]: write a ratio such as 0.9")
    return EngineLimits(
        utilization=utilization or defaults.utilization,
        block_tokens=_whole(values, "--block-size"),
        blocks=_whole(values, "--num-gpu-blocks-override"),
        sequences=_whole(values, "--max-num-seqs") or defaults.sequences,
        batch_tokens=_whole(values, "--max-num-batched-tokens") or defaults.batch_tokens,
        cpu_cache_bytes=defaults.cpu_cache_bytes if cache_gib is None else cache_gib * GIB,
    )


def sequences_asked(args: Sequence[str]) -> int | None:
    """Return how many requests each of a replica's engines is told to run at once, or None when that is left to it.

    Raises:
        EngineArgumentError: the flag has no value or an impossible one.
    """
    return _whole(_flags(args), "--max-num-seqs")


def _flags(args: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for index, argument in enumerate(args):
        flag, equals, value = argument.partition("=")
        values[flag.replace("_", "-")] = value if equals else next(iter(args[index + 1 : index + 2]), "")
    return values


def _number(values: Mapping[str, str], flag: str) -> float | None:
    if flag not in values:
        return None
    try:
        return float(values[flag])
    except ValueError:
        raise EngineArgumentError(f"{flag} {values[flag]!r} is not a number: write one after the flag") from None


def _whole(values: Mapping[str, str], flag: str) -> int | None:
    number = _number(values, flag)
    if number is None:
        return None
    if not number.is_integer() or number < 1:
        raise EngineArgumentError(f"{flag} {values[flag]!r} is not a whole number of 1 or more: correct it")
    return int(number)
