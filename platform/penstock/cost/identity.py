"""The textbook identity between a price per hour, a rate of tokens and a price per million tokens."""

from __future__ import annotations

import math


def usd_per_million_tokens(gpu_hourly_usd: float, tokens_per_second: float) -> float:
    """Return `gpu_hourly_usd * 1e6 / (tokens_per_second * 3600)`.

    It holds for accelerators that are busy all the time; `penstock.cost.attribution` measures what is paid besides.

    Args:
        gpu_hourly_usd: USD an hour for all the accelerators that make the tokens together.
        tokens_per_second: What they make together. Whether prompt tokens count is the caller's choice of denominator.

    Raises:
        ValueError: An argument is not a finite number above zero.

    Examples:
        >>> round(usd_per_million_tokens(2, 30), 2)
        18.52
    """
    for name, value in (("gpu_hourly_usd", gpu_hourly_usd), ("tokens_per_second", tokens_per_second)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} {value!r}: must be a finite number above zero")
    return gpu_hourly_usd * 1e6 / (tokens_per_second * 3600)
