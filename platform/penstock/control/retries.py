"""New tries for applications that Serve has given up on: an engine that failed for want of a network may do better."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from penstock.serve.applications import Application
from penstock.serve.status import ObservedApplication, ServeStatus

FIRST_WAIT_S = 30.0
LONGEST_WAIT_S = 600.0


@dataclass(slots=True)
class _Failing:
    attempt: int = 0
    """Part of the application's revision: Serve tries again only what differs from what failed."""
    wait_s: float = FIRST_WAIT_S
    """Before the next try; twice as long after each, until a replica runs."""
    since_s: float | None = None
    """Since when Serve has not been trying; None while it does."""


class Retries:
    """Counts the tries of each application. One with any replica left is let be: a new revision would replace it."""

    def __init__(self) -> None:
        self._failing: dict[str, _Failing] = {}

    def observe(self, serve: ServeStatus, now_s: float) -> tuple[str, ...]:
        """Take a status; return the applications that are due for another try."""
        due: list[str] = []
        for name, app in serve.applications.items():
            if _has_given_up(app):
                failing = self._failing.setdefault(name, _Failing())
                if failing.since_s is None:
                    failing.since_s = now_s
                elif now_s - failing.since_s >= failing.wait_s:
                    failing.attempt += 1
                    failing.wait_s = min(2 * failing.wait_s, LONGEST_WAIT_S)
                    failing.since_s = None
                    due.append(name)
            elif (known := self._failing.get(name)) is not None:
                known.since_s = None
                if any(replica.state == "RUNNING" for replica in app.replicas):
                    known.wait_s = FIRST_WAIT_S
        return tuple(due)

    def applied(self, application: Application) -> Application:
        """Return the application as it is to be tried now."""
        failing = self._failing.get(application.name)
        return application if failing is None else msgspec.structs.replace(application, attempt=failing.attempt)


def _has_given_up(app: ObservedApplication) -> bool:
    return app.has_failed and not app.replicas
