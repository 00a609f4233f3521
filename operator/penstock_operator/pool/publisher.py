"""Publishes a pool's replicas for gateways, and waits until they have heard of those that go."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final

from penstock.control.replicas import Life
from penstock.routing.published import MANAGED_BY
from penstock_kube.resources import Object
from penstock_operator.pool.loads import Loads
from penstock_operator.pool.mirrored import Mirrored
from penstock_operator.pool.slices import MANAGED_BY_LABEL, plan_slices, wanted_slices

ROUTE_AWAY_S: Final = 5.0
"""How long a scale-down waits for gateways. One that does not answer holds none up for longer."""

_log = logging.getLogger(__name__)


class Publisher:
    """The EndpointSlices of one namespace."""

    def __init__(self, namespace: str, slices: Mirrored, loads: Loads) -> None:
        self._namespace = namespace
        self._slices = slices
        self._loads = loads
        self._lives: tuple[Life, ...] | None = None
        self._leaving: frozenset[str] = frozenset()
        self._weights: Mapping[str, int | None] = {}

    @property
    def current(self) -> list[Object]:
        """The slices that are there."""
        return [
            item
            for item in self._slices.all(self._namespace)
            if (item["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY
        ]

    async def publish(self, lives: Iterable[Life], leaving: frozenset[str], weights: Mapping[str, int | None]) -> None:
        """Make the slices say this.

        Raises:
            KubeError: a write failed; what gateways know is as it was, and the next call tries again.
        """
        self._lives, self._leaving, self._weights = tuple(lives), leaving, weights
        plan = plan_slices(wanted_slices(self._namespace, self._lives, leaving, weights), self.current)
        for body in plan.apply:
            await self._slices.apply(body)
        for item in plan.delete:
            await self._slices.delete(item)

    async def route_away(self, victims: frozenset[str]) -> None:
        """Publish that replicas get nothing new, and return once no gateway would give them anything, or it is late."""
        if self._lives is None or not victims.intersection(life.id for life in self._lives):
            return  # no gateway has ever heard of them
        await self.publish(self._lives, self._leaving | victims, self._weights)
        if not await self._loads.wait_unroutable(victims, ROUTE_AWAY_S):
            _log.warning(
                "%s: a gateway may still route to %s, or does not answer; going on after %.0f s",
                self._namespace,
                ", ".join(sorted(victims)),
                ROUTE_AWAY_S,
            )
