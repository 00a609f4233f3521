"""Moments as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_moment(text: str, now_s: float) -> float:
    """Return a moment in Unix seconds.

    Args:
        text: A span back from now (`90s`, `15m`, `2h`, `7d`), Unix seconds, or a date and time; without an offset it is
            local time.
        now_s: Now, Unix seconds.

    Raises:
        ValueError: it is none of them; the message says what is.
    """
    if span := re.fullmatch(r"(\d{1,9})([smhd])", text):
        return now_s - int(span[1]) * _SECONDS[span[2]]
    if re.fullmatch(r"\d{9,10}(\.\d+)?", text):
        return float(text)
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r}: give a time span like 90s, 15m, 2h or 7d, or a date and time like 2026-11-23T18:00"
        ) from None
