"""Locust shapes: thin shells that tell locust what the pure schedules say."""

from __future__ import annotations

from locust import LoadTestShape
from locust.env import Environment

from penstock_loadtest.schedules import Schedule, level_at, most_users
from penstock_loadtest.settings import LoadSettings, plan_arrivals, plan_users
from penstock_loadtest.users import ChatUser, LoadContext, ReplayUser

Tick = tuple[int, float] | None
"""Users, and how many may be started or stopped per second; None to stop."""


class ScheduleShape(LoadTestShape):  # type: ignore[misc] # locust ships no types that strict mode accepts
    """As many users as a schedule says."""

    abstract = True

    def __init__(self, load: LoadContext, schedule: Schedule) -> None:
        super().__init__()
        self._load = load
        self._schedule = schedule

    def tick(self) -> Tick:
        """Return what locust should have now."""
        level = level_at(self._schedule, self.get_run_time())
        if level is None or self._load.stopping.is_set():
            return None
        return max(1, round(level)), max(100.0, float(most_users(self._schedule)))


class ReplayShape(LoadTestShape):  # type: ignore[misc]
    """One user that sends requests by their times, until all are answered."""

    abstract = True

    def __init__(self, load: LoadContext) -> None:
        super().__init__()
        self._load = load

    def tick(self) -> Tick:
        """Return what locust should have now."""
        return None if self._load.stopping.is_set() or self._load.replayed.is_set() else (1, 1.0)


def equip(environment: Environment, settings: LoadSettings, **context: object) -> LoadContext:
    """Give an environment the users and the shape that the settings ask for; its runner must exist.

    Args:
        environment: a locust environment with a runner.
        settings: checked settings.
        **context: passed on to LoadContext.
    """
    arrivals = plan_arrivals(settings) if settings.open_loop else ()
    load = LoadContext(environment, settings, arrivals, **context)  # type: ignore[arg-type]
    environment.user_classes = [ReplayUser if settings.open_loop else ChatUser]
    shape = ReplayShape(load) if settings.open_loop else ScheduleShape(load, plan_users(settings))
    shape.runner = environment.runner
    environment.shape_class = shape
    environment.stop_timeout = settings.stop_timeout_s
    return load
