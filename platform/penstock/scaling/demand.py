"""How many requests a second are to be expected when a replica ordered now would be ready."""

from __future__ import annotations

from math import sqrt

import msgspec

from penstock.scaling.policy import ScalingPolicy
from penstock.scaling.snapshot import Demand

NOISE_SIGMAS = 2.0
"""A rise is a trend only beyond this many standard deviations of Poisson arrivals: 1 in 40 by chance."""
MAX_GROWTH = 2.0
"""A forecast goes no further than this times the present rate: trends rarely last a whole cold start."""
MIN_COMPLETED = 5
"""Fewer completed requests say too little of the mean one to multiply arrivals by."""


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Expected arrivals."""

    rps: float
    """Requests per second to be ready for."""
    present_rps: float
    """What arrives now, by the window that counts."""
    rising: bool
    """True when the present rate is extrapolated over a cold start."""


def forecast(demand: Demand, lead_s: float, *, panic: bool) -> Forecast:
    """Return the arrivals to be ready for, one cold start ahead.

    The stable window counts, the fast one too in panic. A rise of the fast window over the stable one that chance does
    not explain is carried on in a straight line, to at most `MAX_GROWTH` times the fast rate. A fall is not carried on.
    """
    present = max(demand.arrival_rps, demand.fast_arrival_rps) if panic else demand.arrival_rps
    expected = demand.arrival_rps * demand.fast_window_s
    seen = demand.fast_arrival_rps * demand.fast_window_s
    if seen - expected <= NOISE_SIGMAS * sqrt(max(expected, 1.0)):
        return Forecast(rps=present, present_rps=present, rising=False)
    # The windows' middles lie this far apart.
    between_s = max((demand.stable_window_s - demand.fast_window_s) / 2, 1.0)
    slope = (demand.fast_arrival_rps - demand.arrival_rps) / between_s
    ahead = min(demand.fast_arrival_rps + slope * lead_s, MAX_GROWTH * demand.fast_arrival_rps)
    return Forecast(rps=max(present, ahead), present_rps=present, rising=True)


def is_known(demand: Demand, policy: ScalingPolicy) -> bool:
    """Return whether a gateway has reported lately."""
    return demand.report_age_s is not None and demand.report_age_s <= policy.stale_after_s


def is_any(demand: Demand) -> bool:
    """Return whether anybody wants anything."""
    return demand.arrival_rps > 0 or demand.fast_arrival_rps > 0 or demand.backlog_requests > 0 or demand.in_flight > 0


def expected_running(demand: Demand, rps: float) -> float | None:
    """Return how many requests run at once when `rps` arrive (Little's law), or None while unknown."""
    if demand.seconds_per_request is None or demand.completed_requests < MIN_COMPLETED:
        return None
    return rps * demand.seconds_per_request
