"""The pick: which of a model's replicas gets a request, from what is known of each at that moment.

A replica's score is a pressure: KV-cache usage as the engine last reported it, plus what waits there, plus what this
gateway has sent since that report, which the report cannot know. The lowest score wins. Every term grows with its
input and none is traded for less of another, so a replica that is worse in everything is never chosen.

While a model's variants have shares, as in a rollout, a variant is chosen by weight first, and the replica within it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, Generic, Protocol, TypeVar

import msgspec

WAITING_WEIGHT: Final = 0.25
"""One request waiting in the engine weighs like a quarter of a full KV cache: an engine that queues is saturated."""

FRESH_WEIGHT: Final = 0.05
"""One request sent since the engine's last report: the load it brings is not in `kv_usage` yet."""

IN_FLIGHT_WEIGHT: Final = 0.01
"""One request of ours at the replica: balances replicas whose engines report nothing, or nothing different."""


class ReplicaView(Protocol):
    """What the pick reads of a replica."""

    @property
    def id(self) -> str:
        """Unique within the platform."""
        ...

    @property
    def draining(self) -> bool:
        """It finishes what it has and gets nothing new."""
        ...

    @property
    def ejected(self) -> bool:
        """It failed and has not proved itself since."""
        ...

    @property
    def kv_usage(self) -> float:
        """Share of KV blocks in use at the last report, 0 to 1; 0 when the engine has not reported."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that waited in the engine at the last report."""
        ...

    @property
    def in_flight(self) -> int:
        """Requests of this gateway process at the replica now."""
        ...

    @property
    def in_flight_at_report(self) -> int:
        """`in_flight` at the time of the last report."""
        ...


View = TypeVar("View", bound=ReplicaView)


class Chooser(Protocol):
    """`pick` or `last_resort`."""

    def __call__(self, candidates: Sequence[View], *, turn: int, tried: Container[str] = ()) -> View | None:
        """Choose one of the candidates, or none."""
        ...


class Rejection(StrEnum):
    """Why a replica was not considered."""

    DRAINING = "Draining"
    EJECTED = "Ejected"
    TRIED = "Tried"
    """This request already failed there."""


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate of a pick, as it stood."""

    replica: str
    score: float
    kv_usage: float
    waiting: int
    fresh: int
    """Requests sent since the engine's last report."""
    in_flight: int
    rejected: Rejection | None = None


class Pick(msgspec.Struct, frozen=True, kw_only=True):
    """A pick with its reasons."""

    chosen: str | None
    """None when every candidate was rejected."""
    candidates: tuple[Scored, ...]


def score(view: ReplicaView) -> float:
    """Return the replica's pressure; lower is better, 0 is an idle replica."""
    in_flight = view.in_flight
    fresh = in_flight - view.in_flight_at_report
    pressure = view.kv_usage + WAITING_WEIGHT * view.waiting + IN_FLIGHT_WEIGHT * in_flight
    return pressure + FRESH_WEIGHT * fresh if fresh > 0 else pressure


def pick(candidates: Sequence[View], *, turn: int, tried: Container[str] = ()) -> View | None:
    """Choose the replica with the lowest score.

    Args:
        candidates: The model's replicas.
        turn: Breaks ties: candidates are considered from this place on, round the list. A counter spreads equal
            replicas evenly.
        tried: Ids of replicas at which this request failed already.

    Returns:
        The choice, or None when all drain, are ejected or were tried.
    """
    best: View | None = None
    best_score = 0.0
    count = len(candidates)
    for place in range(count):
        view = candidates[(turn + place) % count]
        if view.draining or view.ejected or view.id in tried:
            continue
        pressure = score(view)
        if best is None or pressure < best_score:
            best, best_score = view, pressure
    return best


def last_resort(candidates: Sequence[View], *, turn: int, tried: Container[str] = ()) -> View | None:
    """Choose among ejected replicas, for when nothing better is left: an attempt may work, a refusal never does."""
    count = len(candidates)
    for place in range(count):
        view = candidates[(turn + place) % count]
        if view.ejected and not view.draining and view.id not in tried:
            return view
    return None


def explain(candidates: Sequence[View], *, turn: int, tried: Container[str] = ()) -> Pick:
    """Return the same choice as `pick`, with every candidate's score and what spoke against it."""
    chosen = pick(candidates, turn=turn, tried=tried)
    return Pick(
        chosen=None if chosen is None else chosen.id,
        candidates=tuple(
            Scored(
                replica=view.id,
                score=score(view),
                kv_usage=view.kv_usage,
                waiting=view.waiting,
                fresh=max(0, view.in_flight - view.in_flight_at_report),
                in_flight=view.in_flight,
                rejected=_rejection(view, tried),
            )
            for view in candidates
        ),
    )


class Shares(Generic[View]):
    """A model's replicas by variant, compiled once for all picks of a snapshot.

    Args:
        replicas: The model's replicas with the variant of each.
        weights: Share of each variant that has one; a variant without takes what no other can, as one of weight 0.
    """

    __slots__ = ("_by_weight", "_rest")

    def __init__(self, replicas: Iterable[tuple[str, View]], weights: Mapping[str, int]) -> None:
        variants: dict[str, list[View]] = {}
        self._rest: list[View] = []
        for variant, replica in replicas:
            (variants.setdefault(variant, []) if weights.get(variant, 0) > 0 else self._rest).append(replica)
        # In the order of names, so that each gateway process gives one session key the same variant.
        self._by_weight = [(weights[variant], variants[variant]) for variant in sorted(variants)]

    def choose(self, choose: Chooser, *, point: float, turn: int, tried: Container[str] = ()) -> View | None:
        """Choose a variant by weight and the replica within it.

        A variant that has no replica to give leaves its share to the others in their proportions, and no other
        variant's requests move. Those without weight come last.

        Args:
            choose: Chooses within a variant.
            point: In [0, 1): evenly spread for requests, or a session's own (`session_point`).
            turn: Breaks ties between equal replicas.
            tried: Ids of replicas at which this request failed already.
        """
        left = self._by_weight
        while left:
            mark = point * sum(weight for weight, _ in left)
            place = 0
            while place < len(left) - 1 and mark >= left[place][0]:
                mark -= left[place][0]
                place += 1
            weight, replicas = left[place]
            chosen = choose(replicas, turn=turn, tried=tried)
            if chosen is not None:
                return chosen
            # Where in its share the point fell is as evenly spread as the point was.
            point = min(mark / weight, _BELOW_1)
            left = left[:place] + left[place + 1 :]
        return choose(self._rest, turn=turn, tried=tried) if self._rest else None


_BELOW_1: Final = 1.0 - 2.0**-53


def session_point(key: bytes) -> float:
    """Return a session key's place in [0, 1): the same in every process, and evenly spread over keys."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=6).digest()) / 2.0**48


def split(weights: Sequence[int], point: float) -> int | None:
    """Choose a backend by weight.

    Args:
        weights: Non-negative, one a backend.
        point: In [0, 1); evenly spread points give each backend its share.

    Returns:
        The backend's place, or None when all weights are 0.
    """
    total = sum(weights)
    if total <= 0:
        return None
    mark = point * total
    for place, weight in enumerate(weights):
        if mark < weight:
            return place
        mark -= weight
    return max(place for place, weight in enumerate(weights) if weight > 0)


def _rejection(view: ReplicaView, tried: Container[str]) -> Rejection | None:
    if view.draining:
        return Rejection.DRAINING
    if view.ejected:
        return Rejection.EJECTED
    return Rejection.TRIED if view.id in tried else None
