"""Money and time as integers, so that sums are exact: picodollars (1e-12 USD) and nanoseconds.

A replica at 2 USD an hour costs 555,556 picodollars a millisecond: even a millisecond shared by a thousand requests
rounds each share by less than one part in five hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

PICOUSD_PER_USD: Final = 10**12
NS_PER_S: Final = 10**9
_NS_PER_HOUR: Final = 3600 * NS_PER_S


def to_ns(seconds: float) -> int:
    """Return Unix seconds as whole nanoseconds."""
    return round(seconds * NS_PER_S)


def to_s(ns: int) -> float:
    """Return nanoseconds as seconds."""
    return ns / NS_PER_S


def to_usd(picousd: int) -> float:
    """Return picodollars as dollars, for people and gauges; add up the integers, never these."""
    return picousd / PICOUSD_PER_USD


def price_picousd_per_hour(usd_per_hour: str) -> int:
    """Return a price given as a decimal string in picodollars an hour, rounded to the nearest.

    Raises:
        ValueError: Not a finite decimal number, or negative.
    """
    try:
        price = Decimal(usd_per_hour)
    except InvalidOperation as error:
        raise ValueError(f"usd_per_hour {usd_per_hour!r}: not a decimal number; write it like '2.99'") from error
    if not price.is_finite() or price < 0:
        raise ValueError(f"usd_per_hour {usd_per_hour!r}: must be a finite number, zero or more")
    return int((price * PICOUSD_PER_USD).to_integral_value())


def span_cost_picousd(price_picousd_per_hour: int, origin_ns: int, start_ns: int, end_ns: int) -> int:
    """Return what `[start_ns, end_ns)` costs of something that is paid for since `origin_ns`.

    Neighbouring spans of one origin add up exactly to the span that they make together: each is the difference of two
    running totals that are rounded down.
    """
    until_end = price_picousd_per_hour * (end_ns - origin_ns) // _NS_PER_HOUR
    until_start = price_picousd_per_hour * (start_ns - origin_ns) // _NS_PER_HOUR
    return until_end - until_start


def split_picousd(total: int, weights: Sequence[float]) -> list[int]:
    """Share `total` out in proportion to `weights` (not negative, not all zero), exactly.

    The shares add up to `total`, and each is within one picodollar of its due, save for the rounding of floats.
    """
    whole = sum(weights)
    shares: list[int] = []
    running = 0.0
    given = 0
    for weight in weights[:-1]:
        running += weight
        up_to_here = min(total, int(total * (running / whole)))
        shares.append(up_to_here - given)
        given = up_to_here
    shares.append(total - given)
    return shares
