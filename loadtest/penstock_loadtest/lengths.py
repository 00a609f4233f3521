"""Lengths of prompts and answers: how they are written on a command line, and how they are drawn."""

from __future__ import annotations

import math
import random

import msgspec

from penstock_loadtest.errors import LoadSettingsError

FORMS = "N, LOW-HIGH (uniform) or lognormal:MEDIAN:SIGMA:MAX"


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution over whole tokens, from `low` to `high`.

    With `sigma` it is lognormal around `median`, cut off at `high`; without, uniform.
    """

    low: int
    high: int
    median: float = 0.0
    sigma: float | None = None

    def draw(self, rng: random.Random) -> int:
        """Draw one length in tokens."""
        if self.sigma is None:
            return rng.randint(self.low, self.high)
        drawn = self.median * math.exp(rng.gauss(0.0, self.sigma))
        return max(self.low, min(self.high, round(drawn)))


def parse_lengths(text: str) -> Lengths:
    """Read a distribution: `64`, `16-256`, or `lognormal:MEDIAN:SIGMA:MAX`.

    Raises:
        LoadSettingsError: the text has none of these forms, or a length under one token.
    """
    try:
        lengths = _parse(text.strip())
    except ValueError as error:
        raise LoadSettingsError(f"length {text!r} is not understood; write {FORMS}") from error
    if not 1 <= lengths.low <= lengths.high:
        raise LoadSettingsError(f"length {text!r} must run from at least 1 token upwards; write {FORMS}")
    return lengths


def _parse(text: str) -> Lengths:
    if text.startswith("lognormal:"):
        median, sigma, high = text.removeprefix("lognormal:").split(":")
        return Lengths(low=1, high=int(high), median=float(median), sigma=float(sigma))
    low, _, high = text.partition("-")
    return Lengths(low=int(low), high=int(high or low))
