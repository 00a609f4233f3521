"""Open-loop load: requests with the time at which each is due, whatever became of those before it."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec

from penstock_loadtest.errors import LoadSettingsError
from penstock_loadtest.lengths import Lengths
from penstock_loadtest.schedules import Schedule, poisson_arrivals


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """One request to come."""

    at_s: float
    """Seconds since the start."""
    prompt_tokens: int
    output_tokens: int


class TraceScale(msgspec.Struct, frozen=True, kw_only=True):
    """How a trace is fitted to the system under load."""

    time_scale: float = 1.0
    """Trace seconds that pass in one second: 2 replays twice as fast."""
    length_scale: float = 1.0
    """Factor on both lengths."""
    max_prompt_tokens: int | None = None
    max_output_tokens: int | None = None
    duration_s: float | None = None
    """Seconds of replay after which no more requests are due; None for the whole trace."""


def draw_arrivals(schedule: Schedule, prompt: Lengths, output: Lengths, seed: int) -> tuple[Arrival, ...]:
    """Draw Poisson arrivals with lengths; the same seed always gives the same ones."""
    times = random.Random(f"{seed}/times")  # noqa: S311 - load, not secrets
    sizes = random.Random(f"{seed}/sizes")  # noqa: S311
    return tuple(
        Arrival(at_s=at_s, prompt_tokens=prompt.draw(sizes), output_tokens=output.draw(sizes))
        for at_s in poisson_arrivals(schedule, times)
    )


def scale_trace(trace: Iterable[Arrival], scale: TraceScale) -> tuple[Arrival, ...]:
    """Compress or stretch a trace in time, and scale and cap its lengths.

    Raises:
        LoadSettingsError: a scale is not above 0.
    """
    for name in ("time_scale", "length_scale"):
        value = getattr(scale, name)
        if not value > 0:
            raise LoadSettingsError(f"{name} {value} must be above 0")
    return tuple(
        Arrival(
            at_s=arrival.at_s / scale.time_scale,
            prompt_tokens=_scaled(arrival.prompt_tokens, scale.length_scale, scale.max_prompt_tokens),
            output_tokens=_scaled(arrival.output_tokens, scale.length_scale, scale.max_output_tokens),
        )
        for arrival in trace
        if scale.duration_s is None or arrival.at_s / scale.time_scale < scale.duration_s
    )


def _scaled(tokens: int, factor: float, cap: int | None) -> int:
    scaled = max(1, round(tokens * factor))
    return scaled if cap is None else min(scaled, cap)
