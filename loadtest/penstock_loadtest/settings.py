"""The settings of a load run, one value that the command line, the locustfile and callers in Python all make."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from penstock_loadtest.arrivals import Arrival, TraceScale, draw_arrivals, scale_trace
from penstock_loadtest.errors import LoadSettingsError
from penstock_loadtest.lengths import Lengths, parse_lengths
from penstock_loadtest.schedules import Schedule, burst, constant, ramp
from penstock_loadtest.traces import AZURE_2023_CONVERSATION, read_azure_trace

MOST_USERS = 10_000
"""What one load process is given to simulate."""
MOST_ARRIVALS = 10_000_000
"""All arrivals of an open-loop run are drawn before it begins."""


class Shape(StrEnum):
    """How the load changes with time."""

    CONSTANT = "constant"
    RAMP = "ramp"
    """From nothing to the full level over `ramp_s`, then level."""
    BURST = "burst"
    """A quarter of the level, and the full level for the last `burst_s` of each `period_s`."""
    TRACE = "trace"
    """Requests as a trace has them; always open loop."""


class LoadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a load run does."""

    url: str
    """Base address, with or without `/v1`."""
    model: str
    api_key: str = ""
    shape: Shape = Shape.CONSTANT
    duration_s: float = 60.0
    """Seconds in which requests begin. A trace that ends earlier ends the run."""
    users: int = 4
    """Highest number of users, each with one request at a time (closed loop); unused with `rate_rps` and traces."""
    rate_rps: float | None = None
    """Requests per second at the full level, sent when due whether or not earlier ones were answered (open loop)."""
    ramp_s: float = 30.0
    period_s: float = 30.0
    burst_s: float = 5.0
    trace_file: str | None = None
    """In Azure's format; None for the one that comes with the package."""
    time_scale: float = 1.0
    """Trace seconds that pass in one second."""
    length_scale: float = 1.0
    """Factor on a trace's lengths."""
    prompt_tokens: str = "lognormal:200:0.8:2000"
    """A distribution (`penstock_loadtest.lengths`); of a trace, its upper end caps the lengths."""
    output_tokens: str = "16-256"
    system_tokens: int = 0
    """Length of a system prompt that all requests share, in front of their own: what a prefix cache can find."""
    bytes_per_token: float = 4.0
    """To make prompts of a length in tokens: about 4 for English and common tokenizers, 1 for a byte-level one."""
    stream: bool = True
    ignore_eos: bool = False
    """Ask vLLM to go on to the full output length."""
    think_time_s: float = 0.0
    """Pause of a user between requests."""
    request_timeout_s: float = 600.0
    """Longest silence on a connection."""
    stop_timeout_s: float = 30.0
    """What open requests get to finish after the end."""
    seed: int = 1

    def check(self) -> None:
        """Check every field that could fail only later.

        Raises:
            LoadSettingsError: names the field, the value and the remedy.
        """
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise LoadSettingsError(f"url {self.url!r} is not an address; write it as http://HOST:PORT")
        if not self.model:
            raise LoadSettingsError("model is empty; name one that the server lists at /v1/models")
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, float) and not math.isfinite(value):
                raise LoadSettingsError(f"{name} {value} must be a finite number")
        if self.users > MOST_USERS:
            raise LoadSettingsError(f"users {self.users} are too many for one load process; give {MOST_USERS} at most")
        if self.ramp_s <= 0:
            raise LoadSettingsError(f"ramp_s {self.ramp_s} must be above 0")
        if (self.rate_rps or 0.0) * self.duration_s > MOST_ARRIVALS:
            raise LoadSettingsError(
                f"rate_rps {self.rate_rps} over duration_s {self.duration_s} are more than {MOST_ARRIVALS} requests; "
                "lower one of them"
            )
        if self.system_tokens < 0:
            raise LoadSettingsError(f"system_tokens {self.system_tokens} must be 0 (none) or above")
        if self.bytes_per_token <= 0:
            raise LoadSettingsError(f"bytes_per_token {self.bytes_per_token} must be above 0")
        parse_lengths(self.prompt_tokens)
        parse_lengths(self.output_tokens)
        if self.open_loop:
            plan_arrivals(self)
        else:
            plan_users(self)

    @property
    def open_loop(self) -> bool:
        """True when requests are sent by time, not by free users."""
        return self.shape is Shape.TRACE or self.rate_rps is not None

    @property
    def lengths(self) -> tuple[Lengths, Lengths]:
        """The distributions of prompt and output tokens."""
        return parse_lengths(self.prompt_tokens), parse_lengths(self.output_tokens)


def plan_users(settings: LoadSettings) -> Schedule:
    """Return the number of users over time, of a closed-loop run."""
    return _schedule(settings, float(settings.users))


def plan_arrivals(settings: LoadSettings) -> tuple[Arrival, ...]:
    """Return every request of an open-loop run with its time."""
    prompt, output = settings.lengths
    if settings.shape is not Shape.TRACE:
        return draw_arrivals(_schedule(settings, settings.rate_rps or 0.0), prompt, output, settings.seed)
    scale = TraceScale(
        time_scale=settings.time_scale,
        length_scale=settings.length_scale,
        max_prompt_tokens=prompt.high,
        max_output_tokens=output.high,
        duration_s=settings.duration_s,
    )
    return scale_trace(read_azure_trace(Path(settings.trace_file or AZURE_2023_CONVERSATION)), scale)


def _schedule(settings: LoadSettings, level: float) -> Schedule:
    match settings.shape:
        case Shape.RAMP:
            rise_s = min(settings.ramp_s, settings.duration_s)
            return ramp(0.0, level, rise_s, settings.duration_s - rise_s)
        case Shape.BURST:
            return burst(
                level / 4, level, period_s=settings.period_s, burst_s=settings.burst_s, duration_s=settings.duration_s
            )
        case _:
            return constant(level, settings.duration_s)
