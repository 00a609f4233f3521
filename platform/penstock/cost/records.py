"""The records money is computed from: what requests used, when replicas existed, and what an outside meter saw.

Three sources that do not know each other: the gateway writes usage, the operator writes replica events as Ray Serve
reports them, and the meter reads the operating system (locally) or the cloud's and Kubernetes' clocks (in a cluster).
A ledger that adds up has therefore been checked against something.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """How a request ended."""

    COMPLETE = "Complete"
    CANCELLED = "Cancelled"
    """The client left first."""
    FAILED = "Failed"
    """The engine or the way to it broke; what was used is charged to the platform, not to the tenant."""


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One request at one replica. `id` makes a record idempotent: the ledger counts each id once."""

    id: str
    tenant: str
    route: str
    """The model name as the client gave it."""
    model: str
    variant: str
    replica: str
    start_s: float
    """Unix seconds at which the request was sent to the replica."""
    first_token_s: float | None
    """None when no token came, and for answers that are not streamed."""
    end_s: float
    prompt_tokens: int
    cached_tokens: int
    """The part of `prompt_tokens` that the engine found in its prefix cache."""
    completion_tokens: int
    outcome: Outcome
    partial: bool
    """True when the counts are what was seen so far, not the engine's own final figure."""


class ReplicaEventKind(StrEnum):
    """A step in a replica's life, as Ray Serve reports it."""

    START = "Start"
    READY = "Ready"
    DRAIN = "Drain"
    END = "End"


class ReplicaEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One step in the life of one replica.

    (`replica`, `kind`) makes an event idempotent: of several the earliest counts, so that an operator that takes over
    may write again whatever it sees.
    """

    replica: str
    kind: ReplicaEventKind
    at_s: float
    model: str
    variant: str
    accelerator_class: str
    accelerators: int
    purchase: str
    """`OnDemand` or `Spot`."""
    usd_per_hour: str
    """Decimal: the price of the whole replica, all its accelerators together."""
    cause: str
    """Why the step was taken, a CamelCase word: `MinReplicas`, `KVBound`, `Recovery`, `CalmDown`, `EngineDied`, ..."""


class MeterReading(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the independent meter saw of one replica: when its process began and, once it is gone, ended."""

    replica: str
    began_s: float
    seen_s: float
    """The last time it was seen alive, or the time of its end."""
    ended: bool
    usd_per_hour: str


class InFlightMark(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One writer's promise about what its spool already holds, written about once a second by every gateway process.

    At `at_s`, every request that this writer ever sent to a replica either has its record above this line or is in
    flight. The ledger settles money only up to that point, so a request under way is never mistaken for idle time.
    A writer's newest mark replaces its older ones; a writer whose process has gone holds nothing back.
    """

    writer: str
    """The process that writes, unique among those alive: the spool's `SpoolWriter.identity`."""
    at_s: float
    oldest_start_s: dict[str, float]
    """By replica, `UsageRecord.start_s` of the oldest request in flight there; replicas without one are left out."""


class ReplicaCensus(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Every replica that exists, of all models that one ledger accounts for, as an operator that leads sees them.

    It ends what nobody else can end: a replica whose leader died before it could write the end. A replica that the
    ledger holds for open, that was heard of last before `at_s` and is not among these, has ended by `at_s`.
    """

    at_s: float
    replicas: tuple[str, ...]


SpoolLine = UsageRecord | ReplicaEvent | MeterReading | InFlightMark | ReplicaCensus
"""One line of a spool file, told apart by its JSON field `type`."""
