"""How much load at what time: levels made of straight lines, and arrivals drawn from them.

A level is a number of users (closed loop) or of requests per second (open loop). Everything here is a pure function;
the shells that ask locust for users are in `shapes`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

import msgspec

from penstock_loadtest.errors import LoadSettingsError


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A straight line of load."""

    duration_s: float
    level: float
    """At its beginning."""
    end_level: float

    def level_after(self, seconds: float) -> float:
        """Return the level so many seconds into the segment."""
        return self.level + (self.end_level - self.level) * seconds / self.duration_s

    @property
    def area(self) -> float:
        """Return level times seconds: with requests/s, the requests to expect."""
        return (self.level + self.end_level) / 2 * self.duration_s

    def time_of_area(self, area: float) -> float:
        """Return the seconds after which the area from the segment's start reaches `area` (at most `self.area`)."""
        slope = (self.end_level - self.level) / self.duration_s
        # The root of slope/2 t^2 + level t = area in the form that stays exact when the slope is nearly 0.
        root = math.sqrt(max(0.0, self.level * self.level + 2 * slope * area))
        rate = self.level + root
        if area <= 0:
            return 0.0
        return min(self.duration_s, 2 * area / rate) if rate > 0 else self.duration_s  # levels too small to square


Schedule = tuple[Segment, ...]


def constant(level: float, duration_s: float) -> Schedule:
    """The same level all the time."""
    return _checked((Segment(duration_s=duration_s, level=level, end_level=level),))


def ramp(start: float, end: float, duration_s: float, hold_s: float = 0.0) -> Schedule:
    """From one level to another, then the latter for `hold_s`."""
    segments = [Segment(duration_s=duration_s, level=start, end_level=end)]
    if hold_s > 0:
        segments.append(Segment(duration_s=hold_s, level=end, end_level=end))
    return _checked(tuple(segments))


def burst(base: float, peak: float, *, period_s: float, burst_s: float, duration_s: float) -> Schedule:
    """A base level with bursts: each period ends with `burst_s` at the peak."""
    if not 0 < burst_s < period_s:
        raise LoadSettingsError(f"burst length {burst_s} s must lie between 0 and the period, {period_s} s")
    segments: list[Segment] = []
    left_s = duration_s
    while left_s > 1e-9:
        for level, wanted_s in ((base, period_s - burst_s), (peak, burst_s)):
            length_s = min(wanted_s, left_s)
            if length_s > 1e-9:
                segments.append(Segment(duration_s=length_s, level=level, end_level=level))
            left_s -= length_s
    return _checked(tuple(segments))


def length_s(schedule: Schedule) -> float:
    """Return the seconds a schedule lasts."""
    return math.fsum(segment.duration_s for segment in schedule)


def level_at(schedule: Schedule, at_s: float) -> float | None:
    """Return the level at a time since the start; None once the schedule is over."""
    for segment in schedule:
        if at_s < segment.duration_s:
            return segment.level_after(max(0.0, at_s))
        at_s -= segment.duration_s
    return None


def expected_arrivals(schedule: Schedule) -> float:
    """Return the mean number of arrivals when levels are requests per second."""
    return math.fsum(segment.area for segment in schedule)


def poisson_arrivals(schedule: Schedule, rng: random.Random) -> Iterator[float]:
    """Draw arrival times in seconds since the start, in order, from a Poisson process that follows the schedule."""
    before_s = area = 0.0
    due = rng.expovariate(1.0)
    for segment in schedule:
        while due <= area + segment.area:
            yield before_s + segment.time_of_area(due - area)
            due += rng.expovariate(1.0)
        area += segment.area
        before_s += segment.duration_s


def _checked(schedule: Schedule) -> Schedule:
    for segment in schedule:
        if segment.duration_s <= 0 or not math.isfinite(segment.duration_s):
            raise LoadSettingsError(f"duration {segment.duration_s} s must be a positive number of seconds")
        if min(segment.level, segment.end_level) < 0:
            raise LoadSettingsError(f"load level {min(segment.level, segment.end_level)} must not be negative")
    if not schedule or max(max(s.level, s.end_level) for s in schedule) <= 0:
        raise LoadSettingsError("a schedule needs a level above 0 at some time")
    return schedule


def most_users(schedules: Sequence[Segment]) -> int:
    """Return the highest level, rounded up."""
    return math.ceil(max(max(segment.level, segment.end_level) for segment in schedules))
