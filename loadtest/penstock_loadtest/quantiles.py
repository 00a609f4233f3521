"""Quantiles of measured values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles of one measure, all 0 when nothing was measured."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the quantile of values in ascending order, linear between neighbours (Hyndman and Fan, type 7).

    Raises:
        ValueError: there are no values, or `share` is not within 0 and 1.
    """
    if not ordered or not 0 <= share <= 1:
        message = f"a quantile needs values and a share within 0 and 1, not {len(ordered)} values and {share}"
        raise ValueError(message)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def quantiles(values: Sequence[float]) -> Quantiles:
    """Return the usual quantiles of values in any order."""
    if not values:
        return Quantiles()
    ordered = sorted(values)
    return Quantiles(
        count=len(ordered),
        mean=math.fsum(ordered) / len(ordered),
        p50=quantile(ordered, 0.5),
        p90=quantile(ordered, 0.9),
        p95=quantile(ordered, 0.95),
        p99=quantile(ordered, 0.99),
        max=ordered[-1],
    )
