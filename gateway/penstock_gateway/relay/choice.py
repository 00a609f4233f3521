"""Where one request goes: the targets of its route, the variant, and the replica that knows its prompt's beginning."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from penstock.routing.pick import Pick, explain, last_resort, pick, reason_of, session_point
from penstock.routing.prefix import Holders, chain
from penstock_gateway.discovery.live import LiveModel, LiveReplica, Target
from penstock_gateway.relay.request import Peek

if TYPE_CHECKING:
    from penstock_gateway.relay.context import Relay

SAMPLE_EVERY: Final = 64
"""Of this many requests one has its pick kept, if there was something to choose from."""
SAMPLES: Final = 256
"""Picks kept; the oldest go first."""

_NO_SESSION: Final = b"null"
_NO_LINKS: Final[list[int]] = []


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One pick, or the pick that a request would have got, with what it was made from."""

    request: str
    at_s: float
    """Unix seconds."""
    name: str
    """As the request named it: a route, a model or an adapter."""
    model: str | None
    """The Model it came to; None when nothing could be picked."""
    variant: str | None
    weights: dict[str, int]
    """Shares of the model's variants; the variant is chosen by them before the replica is."""
    tenant: str | None
    prompt_blocks: int
    """Of the prompt's beginning, looked up in the index."""
    pick: Pick | None
    """None when nothing could be picked, and when one of the ejected was, as a last resort."""


class Found(NamedTuple):
    """A replica, and the name it is to be asked under."""

    target: Target
    replica: LiveReplica


class Choice:
    """What one request's tries have in common.

    Args:
        relay: The process's.
        peeked: The fields of the request's body that decide.
        tenant: Whose request it is: prompts of different tenants are never compared.
        request_id: Names the request where its pick is kept as a sample.
        asked: Nothing is going to be sent: the pick is not counted.
    """

    __slots__ = (
        "_asked",
        "_links",
        "_looked_up",
        "_near",
        "_peeked",
        "_point",
        "_relay",
        "_request_id",
        "_tenant",
        "turn",
    )

    def __init__(self, relay: Relay, peeked: Peek, tenant: str, request_id: str, *, asked: bool = False) -> None:
        self._asked = asked
        self._relay = relay
        self._peeked = peeked
        self._tenant = tenant
        self._request_id = request_id
        self.turn = relay.next_turn()
        self._point = -1.0
        """Decides between variants with shares, the same for every try; below 0 until there is such a choice."""
        self._looked_up: Target | None = None
        """Whose index the prompt's links are for."""
        self._links = _NO_LINKS
        self._near: list[Holders] = []

    def choose(self, targets: Iterable[Target], tried: tuple[str, ...]) -> Found | None:
        """Choose a replica of the first target that has one to give; an ejected one only when no other is left."""
        for target in targets:
            model = target.model
            if model.choosable:
                self._look_up(target)
            replica = self._within(model, tried)
            if replica is not None:
                found = Found(target, replica)
                if model.choosable and not self._asked:
                    self._count(found, tried)
                return found
        for target in targets:
            model = target.model
            if model.shares is None:
                replica = last_resort(model.replicas, turn=self.turn, tried=tried)
            else:
                replica = model.shares.choose(last_resort, point=self._draw(), turn=self.turn, tried=tried)
            if replica is not None:
                return Found(target, replica)
        return None

    def sent(self, replica: LiveReplica) -> None:
        """Note that the replica has the prompt now, so that others that begin with it follow."""
        if self._links and self._looked_up is not None:
            self._looked_up.model.affinity.index.record(replica.id, self._links)

    def explain(self, found: Found | None, tried: tuple[str, ...] = ()) -> Explanation:
        """Return what `choose` has just found, with its reasons."""
        model = None if found is None else found.target.model
        variant = None if found is None else found.replica.replica.variant
        told: Pick | None = None
        if found is not None and model is not None and not found.replica.ejected:
            near = self._near if model.choosable else []
            candidates = [
                replica for replica in model.replicas if model.shares is None or replica.replica.variant == variant
            ]
            told = explain(candidates, turn=self.turn, tried=tried, near=near)
        return Explanation(
            request=self._request_id,
            at_s=self._relay.clock.unix_s(time.monotonic()),
            name=self._peeked.model,
            model=None if model is None else model.name,
            variant=variant,
            weights={} if model is None else model.weights,
            tenant=self._tenant or None,
            prompt_blocks=len(self._links),
            pick=told,
        )

    def _within(self, model: LiveModel, tried: tuple[str, ...]) -> LiveReplica | None:
        near = self._near if model.choosable else ()
        if model.shares is None:
            return pick(model.replicas, turn=self.turn, tried=tried, near=near)
        return model.shares.choose(pick, point=self._draw(), turn=self.turn, tried=tried, near=near)

    def _look_up(self, target: Target) -> None:
        if self._looked_up is not target:
            self._looked_up = target
            self._links = _links(self._peeked, self._relay.salt, self._tenant, target.served_name)
        self._near = target.model.affinity.index.match(self._links)

    def _count(self, found: Found, tried: tuple[str, ...]) -> None:
        found.target.model.affinity.picks[reason_of(found.replica, self._near)] += 1
        if self.turn % SAMPLE_EVERY == 1:
            self._relay.samples.append(self.explain(found, tried))

    def _draw(self) -> float:
        """Return where this request falls between variants: a session's requests all fall on one point."""
        if self._point < 0:
            session = bytes(self._peeked.prompt_cache_key)
            self._point = self._relay.rng() if session == _NO_SESSION else session_point(session)
        return self._point


def _links(peeked: Peek, salt: int, tenant: str, served_name: str) -> list[int]:
    """Return the chain of what the engine will read first: tools stand before all messages in chat templates."""
    prompt = bytes(peeked.messages) or bytes(peeked.prompt) or bytes(peeked.input)
    return chain(prompt, hash((salt, tenant, served_name, bytes(peeked.tools)))) if prompt else _NO_LINKS
