"""Where a gateway's routing snapshot comes from: what every such source can say of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from penstock.routing.snapshot import RoutingSnapshot


class Apply(Protocol):
    """Takes each new snapshot."""

    def __call__(self, snapshot: RoutingSnapshot, *, confirmed: bool = True) -> None:
        """Swap to a snapshot; one that is not confirmed is remembered from an earlier life of this process."""


class ClusterReport(msgspec.Struct, frozen=True, kw_only=True):
    """How discovery in a cluster is doing."""

    silence_s: Mapping[str, float]
    """Seconds since the API server last told something of a kind, by its plural; about 60 is normal."""
    restarts: Mapping[tuple[str, str], int]
    """Watches that ended, by plural and reason."""
    skipped: Mapping[str, int]
    """Objects that could not be read, by plural."""
    taken: int
    """Names left out now, because another namespace has them."""


class Source(Protocol):
    """Finds snapshots and gives them to the gateway."""

    @property
    def error(self) -> str | None:
        """What is wrong now; the last good snapshot stays in use."""
        ...

    @property
    def rejected(self) -> int:
        """Snapshots or objects that could not be read, since start."""
        ...

    def prepare(self) -> None:
        """Apply what can be had without waiting, before the first request."""

    async def run(self) -> None:
        """Follow changes until cancelled."""

    def cluster(self) -> ClusterReport | None:
        """Return how discovery in a cluster is doing; None when there is no cluster."""
