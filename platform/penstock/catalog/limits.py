"""What a Model's engine arguments say about memory, as far as planning needs them."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.catalog.budget import EngineLimits


class EngineArgumentError(ValueError):
    """An engine argument whose value no engine could take."""


def engine_limits(args: Sequence[str]) -> EngineLimits:
    """Read the flags of vLLM that size memory; others are ignored, and the last of a repeated flag counts.

    Raises:
        EngineArgumentError: a flag has no value or an impossible one; the message names it.
    """
    values: dict[str, str] = {}
    for index, argument in enumerate(args):
        flag, equals, value = argument.partition("=")
        values[flag.replace("_", "-")] = value if equals else next(iter(args[index + 1 : index + 2]), "")
    defaults = EngineLimits()
    utilization = _number(values, "--gpu-memory-utilization")
    if utilization is not None and not 0 < utilization <= 1:
        raise EngineArgumentError(f"--gpu-memory-utilization {utilization} is not in (0, 1]: write a ratio such as 0.9")
    return EngineLimits(
        utilization=utilization or defaults.utilization,
        block_tokens=_whole(values, "--block-size"),
        blocks=_whole(values, "--num-gpu-blocks-override"),
        sequences=_whole(values, "--max-num-seqs") or defaults.sequences,
        batch_tokens=_whole(values, "--max-num-batched-tokens") or defaults.batch_tokens,
    )


def _number(values: dict[str, str], flag: str) -> float | None:
    if flag not in values:
        return None
    try:
        return float(values[flag])
    except ValueError:
        raise EngineArgumentError(f"{flag} {values[flag]!r} is not a number: write one after the flag") from None


def _whole(values: dict[str, str], flag: str) -> int | None:
    number = _number(values, flag)
    if number is None:
        return None
    if not number.is_integer() or number < 1:
        raise EngineArgumentError(f"{flag} {values[flag]!r} is not a whole number of 1 or more: correct it")
    return int(number)
