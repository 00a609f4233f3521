"""What every connection of one gateway process shares."""

from __future__ import annotations

import random
import secrets
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

from penstock_gateway.clock import Clock
from penstock_gateway.discovery.fleet import Fleet
from penstock_gateway.discovery.live import LiveReplica
from penstock_gateway.ids import RequestIds
from penstock_gateway.metering.meter import Meter
from penstock_gateway.relay.choice import SAMPLES, Explanation
from penstock_gateway.settings import Settings
from penstock_gateway.tenants.directory import TenantDirectory


class Ejector(Protocol):
    """Takes replicas out of the pick and brings them back."""

    def eject(self, replica: LiveReplica) -> None:
        """The replica failed: choose others until it has proved itself."""


class Tally:
    """Counters that no model owns. They only grow."""

    __slots__ = ("answers", "retries")

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        """Answers by HTTP status, on the data port."""
        self.retries: Counter[str] = Counter()
        """Requests sent to another replica, by what went wrong at the first."""


class Relay:
    """The parts of a gateway process that requests use; one instance."""

    __slots__ = (
        "clock", "confirmed", "draining", "ejector", "fleet", "ids", "is_admin", "meter", "rng", "salt", "samples",
        "settings", "tally", "tenants", "turn",
    )  # fmt: skip

    def __init__(
        self,
        *,
        settings: Settings,
        clock: Clock,
        fleet: Fleet,
        tenants: TenantDirectory,
        meter: Meter,
        ejector: Ejector,
        is_admin: Callable[[bytes | None], bool] = lambda _: False,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.is_admin = is_admin
        """Judges an `authorization` header: who may ask why a request goes where it goes."""
        self.salt = secrets.randbits(62)
        """Of this process's links of prompts."""
        self.samples: deque[Explanation] = deque(maxlen=SAMPLES)
        """Some of the latest picks, with their reasons."""
        self.rng = rng
        """Returns a number in [0, 1): spreads requests over variants by their shares."""
        self.settings = settings
        self.clock = clock
        self.fleet = fleet
        self.tenants = tenants
        """Replaced together with the fleet's snapshot."""
        self.meter = meter
        self.ejector = ejector
        self.ids = RequestIds()
        self.tally = Tally()
        self.turn = 0
        self.draining = False
        self.confirmed = True
        """The snapshot in use is not just remembered from an earlier life of this process."""

    def next_turn(self) -> int:
        """Return the number of this pick, which breaks ties between equal replicas."""
        self.turn = turn = self.turn + 1
        return turn
