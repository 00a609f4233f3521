"""Locust users that chat. Each request shows as three statistics: `chat` (whole), `TTFT` and `TPOT`, in milliseconds.

A `chat` entry's size is its completion tokens, so locust's average size is tokens per request. Locust's own
`Aggregated` line adds the three kinds up; read the lines, not the sum.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import cast

import gevent
from gevent.event import Event
from gevent.pool import Pool
from locust import User, task
from locust.env import Environment
from locust.exception import StopUser

from penstock_loadtest.arrivals import Arrival
from penstock_loadtest.chat import ChatClient
from penstock_loadtest.prompts import make_prompt
from penstock_loadtest.records import Outcome, RequestRecord
from penstock_loadtest.settings import LoadSettings

_ATTRIBUTE = "penstock_load"


class ChatFailure(Exception):  # noqa: N818 - shown by locust as a kind of failure, not raised
    """A request that failed; locust groups failures by its text."""


class LoadContext:
    """What the users of one locust environment share."""

    def __init__(
        self,
        environment: Environment,
        settings: LoadSettings,
        arrivals: tuple[Arrival, ...] = (),
        record: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        self.settings = settings
        self.arrivals = arrivals
        self.stopping = Event()
        """Set when no further request may begin."""
        self.replayed = Event()
        """Set when all arrivals were sent and answered."""
        self._environment = environment
        self._record = record
        self._numbers = itertools.count()
        setattr(environment, _ATTRIBUTE, self)
        environment.events.test_stopping.add_listener(lambda **_: self.stopping.set())

    def next_number(self) -> int:
        """Return a number that no other user has."""
        return next(self._numbers)

    def report(self, record: RequestRecord) -> None:
        """Write a record and show it in locust's statistics."""
        if self._record is not None:
            self._record(record)
        if record.outcome is Outcome.ABANDONED:
            return
        failure = None
        if record.outcome.failed:
            words = (record.outcome, str(record.status or ""), record.error_code)
            failure = ChatFailure(" ".join(word for word in words if word))
        self._fire("chat", record.duration_s, record.completion_tokens, failure)
        if failure is None and record.ttft_s is not None:
            self._fire("TTFT", record.ttft_s, 0, None)
        if failure is None and record.tpot_s is not None:
            self._fire("TPOT", record.tpot_s, 0, None)

    def _fire(self, kind: str, seconds: float, tokens: int, failure: ChatFailure | None) -> None:
        self._environment.events.request.fire(
            request_type=kind,
            name=self.settings.model,
            response_time=seconds * 1000,
            response_length=tokens,
            exception=failure,
            context={},
        )


class ChatUser(User):  # type: ignore[misc] # locust ships no types that strict mode accepts
    """A closed loop: one request at a time, the next one when the last has been answered."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.load = context_of(environment)
        settings = self.load.settings
        self._rng = random.Random(f"{settings.seed}/{self.load.next_number()}")  # noqa: S311 - load, not secrets
        self._prompt, self._output = settings.lengths
        self._client = ChatClient(settings, concurrency=1)

    def wait_time(self) -> float:
        """Return the pause before the next request, in seconds."""
        return self.load.settings.think_time_s

    @task  # type: ignore[untyped-decorator]
    def chat(self) -> None:
        """Ask once."""
        if self.load.stopping.is_set():
            # Locust kills idle users without a look at whether one has just begun to ask.
            raise StopUser
        prompt = make_prompt(round(self._prompt.draw(self._rng) * self.load.settings.bytes_per_token), self._rng)
        self._client.ask(prompt, self._output.draw(self._rng), self.load.report)

    def on_stop(self) -> None:
        """Close the connection."""
        self._client.close()


class ReplayUser(User):  # type: ignore[misc]
    """An open loop: sends every arrival when it is due, each in a greenlet of its own. There is one such user a run."""

    fixed_count = 1

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.load = context_of(environment)
        settings = self.load.settings
        self._rng = random.Random(f"{settings.seed}/replay")  # noqa: S311 - load, not secrets
        self._client = ChatClient(settings, concurrency=max(1, len(self.load.arrivals)))
        self._open = Pool()

    @task  # type: ignore[untyped-decorator]
    def replay(self) -> None:
        """Send all arrivals, wait for their answers, and stop."""
        began_s = gevent.get_hub().loop.now()
        try:
            for arrival in self.load.arrivals:
                gevent.get_hub().loop.update_now()
                due_in_s = began_s + arrival.at_s - gevent.get_hub().loop.now()
                if self.load.stopping.wait(max(0.0, due_in_s)):
                    break
                prompt = make_prompt(round(arrival.prompt_tokens * self.load.settings.bytes_per_token), self._rng)
                self._open.spawn(self._client.ask, prompt, arrival.output_tokens, self.load.report)
            self._open.join()
        finally:
            self._open.kill()
            self._client.close()
            self.load.replayed.set()
        raise StopUser


def context_of(environment: Environment) -> LoadContext:
    """Return the context that was made for an environment."""
    return cast("LoadContext", getattr(environment, _ATTRIBUTE))
