"""Whether a record that decodes can also be counted: the ledger quarantines what cannot, with the reason."""

from __future__ import annotations

from typing import Final

from penstock.cost.money import PICOUSD_PER_USD, price_picousd_per_hour
from penstock.cost.records import InFlightMark, MeterReading, ReplicaCensus, ReplicaEvent, SpoolLine, UsageRecord

LATEST_S: Final = 9e9
"""The year 2255, and the most that fits 64 bits in nanoseconds: later times are milliseconds by mistake."""

MOST_TOKENS: Final = 10**12

MOST_USD_PER_HOUR: Final = 10**5
"""More than any replica costs, and little enough for a year of it to fit 64 bits in picodollars."""


def fault_of(record: SpoolLine) -> str | None:
    """Return what makes a record impossible to count, naming field and value, or None."""
    match record:
        case UsageRecord():
            return _time_fault(
                {"start_s": record.start_s, "first_token_s": record.first_token_s or 0.0, "end_s": record.end_s}
            ) or _count_fault(
                {
                    "prompt_tokens": record.prompt_tokens,
                    "cached_tokens": record.cached_tokens,
                    "completion_tokens": record.completion_tokens,
                }
            )
        case ReplicaEvent():
            return _time_fault({"at_s": record.at_s}) or _price_fault(record.usd_per_hour)
        case MeterReading():
            return _time_fault({"began_s": record.began_s, "seen_s": record.seen_s}) or _price_fault(
                record.usd_per_hour
            )
        case InFlightMark():
            return _time_fault({"at_s": record.at_s, **record.oldest_start_s})
        case ReplicaCensus():
            return _time_fault({"at_s": record.at_s})


def _time_fault(times_s: dict[str, float]) -> str | None:
    for name, value in times_s.items():
        if not 0 <= value <= LATEST_S:
            return f"{name} {value!r}: no Unix time in seconds"
    return None


def _count_fault(counts: dict[str, int]) -> str | None:
    for name, value in counts.items():
        if not 0 <= value <= MOST_TOKENS:
            return f"{name} {value!r}: no count of one request's tokens"
    return None


def _price_fault(usd_per_hour: str) -> str | None:
    try:
        price = price_picousd_per_hour(usd_per_hour)
    except ValueError as error:
        return str(error)
    if price > MOST_USD_PER_HOUR * PICOUSD_PER_USD:
        return f"usd_per_hour {usd_per_hour!r}: no price of one replica in dollars"
    return None
