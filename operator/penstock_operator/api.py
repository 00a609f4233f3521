"""What the leader answers over HTTP: Models as they are now, and the last decisions about one. Read-only.

People reach it through the API server's proxy, so that their own rights decide who may ask. A copy that does not lead
knows nothing of this and says who does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from penstock.scaling.decision import Decision
from penstock_kube.lease import LeaderElector
from penstock_kube.people.answers import LeaderDecisions, LeaderModels
from penstock_kube.resources import Key
from penstock_operator.world import World

MOST_DECISIONS: Final = 200
Decisions = Callable[[str, str], Sequence[Decision]]
"""Returns what is kept of the decisions about a Model, by namespace and name, the oldest first."""


class OperatorApi:
    """Answers for one operator process."""

    def __init__(
        self, world: World, elector: LeaderElector, decisions: Decisions, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Make the answers.

        Args:
            world: views of Models, which only the leader has.
            elector: says whether this process leads, and who does.
            decisions: what pools remember.
            clock: Unix seconds.
        """
        self._world = world
        self._elector = elector
        self._decisions = decisions
        self._clock = clock

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes."""
        return [
            web.get("/api/status", self._status),
            web.get("/api/decisions/{namespace}/{model}", self._last_decisions),
        ]

    async def _status(self, request: web.Request) -> web.Response:
        if (refusal := self._refusal()) is not None:
            return refusal
        namespace = request.query.get("namespace") or None
        return _json(LeaderModels(at_s=self._clock(), models=tuple(self._world.views(namespace))))

    async def _last_decisions(self, request: web.Request) -> web.Response:
        if (refusal := self._refusal()) is not None:
            return refusal
        count = _count(request.query.get("last", "1"))
        if count is None:
            return _error(400, f"last {request.query['last']!r}: give a number from 1 to {MOST_DECISIONS}")
        key = Key(request.match_info["namespace"], request.match_info["model"])
        if self._world.models.get(*key) is None:
            return _error(404, f"there is no Model {key}: `kubectl get models -A` shows those there are")
        return _json(LeaderDecisions(decisions=tuple(self._decisions(*key)[-count:])))

    def _refusal(self) -> web.Response | None:
        if self._elector.is_leader:
            return None
        holder = self._elector.holder
        return _error(503, f"this operator does not lead: ask {holder}" if holder else "no operator leads yet")


def _count(text: str) -> int | None:
    if not (text.isascii() and text.isdecimal() and len(text) <= 3):
        return None
    return int(text) if 1 <= int(text) <= MOST_DECISIONS else None


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return _json({"error": {"message": message}}, status)
