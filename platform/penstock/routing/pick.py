"""The pick: which of a model's replicas gets a request, from what is known of each at that moment.

A replica's score is a pressure: KV-cache usage as the engine last reported it, plus what waits there, plus what this
gateway has sent since that report, which the report cannot know. The lowest score wins. Every term grows with its
input and none is traded for less of another, so a replica that is worse in everything is never chosen.

Before that, a replica that holds the beginning of the prompt in its cache is preferred, the one that holds most of it
first, as long as that makes no replica much busier than the others: affinity alone would send every request that
begins with the same system prompt to one replica.

While a model's variants have shares, as in a rollout, a variant is chosen by weight first, and the replica within it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from penstock.routing.prefix import Holders

WAITING_WEIGHT: Final = 0.25
"""One request waiting in the engine weighs like a quarter of a full KV cache: an engine that queues is saturated."""

FRESH_WEIGHT: Final = 0.05
"""One request sent since the engine's last report: the load it brings is not in `kv_usage` yet."""

IN_FLIGHT_WEIGHT: Final = 0.01
"""One request at the replica: balances replicas whose engines report nothing, or nothing different."""

MAX_OVER_MEAN: Final = 1.25
"""A replica gets a request for what it holds of the prompt only while its load stays within this many times the mean
of all that could take it, the request included."""

WORTH_ROUNDING_BYTES: Final = 16 * 1024
"""Loads are whole numbers: a replica that holds at least this much of the prompt (about 4,000 tokens) may go to the
next whole number above the bound, others may not. Where few requests run, rounding up for all costs balance, and for
none costs hits: `penstock bench pick` measures both on a trace."""

MIN_OF_MEAN: Final = 0.5
"""When the replica with the lowest pressure has less than this share of the mean load, it gets the next request whose
beginning several others hold: one prefill, and it holds it too. Without that a new replica would get nothing, as long
as the others could share all requests within their bound."""

MAX_PRESSURE_OVER_BEST: Final = 0.5
"""A replica whose pressure is this much above the lowest has no room for what it would save: it preempts or queues."""


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

    @property
    def others(self) -> int:
        """Requests of other gateway processes there at the last report, so far as can be told."""
        ...


View = TypeVar("View", bound=ReplicaView)


class Chooser(Protocol):
    """`pick` or `last_resort`."""

    def __call__(
        self, candidates: Sequence[View], *, turn: int, tried: Container[str] = (), near: Sequence[Holders] = ()
    ) -> View | None:
        """Choose one of the candidates, or none."""
        ...


class Rejection(StrEnum):
    """Why a replica was not considered."""

    DRAINING = "Draining"
    EJECTED = "Ejected"
    TRIED = "Tried"
    """This request already failed there."""


class Reason(StrEnum):
    """What decided a pick."""

    PREFIX = "prefix"
    """The replica holds some of the prompt's beginning."""
    SPREAD = "spread"
    """Others hold some of it and were too busy, or not to be chosen from."""
    PRESSURE = "pressure"
    """Nobody is known to hold any of it: the least pressure."""


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate of a pick, as it stood."""

    replica: str
    score: float
    kv_usage: float
    waiting: int
    fresh: int
    """Requests sent since the engine's last report."""
    in_flight: int
    others: int
    matched_bytes: int
    """Of the prompt's beginning that it probably holds."""
    over_bound: bool
    """With this request its load would exceed `Pick.max_load`, or its pressure is too high for affinity."""
    rejected: Rejection | None = None


class Pick(msgspec.Struct, frozen=True, kw_only=True):
    """A pick with its reasons."""

    chosen: str | None
    """None when every candidate was rejected."""
    reason: Reason | None
    max_load: float
    """The most requests at a replica, this one included, that it may come to by what it holds of the prompt."""
    candidates: tuple[Scored, ...]


def score(view: ReplicaView) -> float:
    """Return the replica's pressure; lower is better, 0 is an idle replica."""
    in_flight = view.in_flight
    fresh = in_flight - view.in_flight_at_report
    pressure = view.kv_usage + WAITING_WEIGHT * view.waiting + IN_FLIGHT_WEIGHT * (in_flight + view.others)
    return pressure + FRESH_WEIGHT * fresh if fresh > 0 else pressure


def pick(
    candidates: Sequence[View], *, turn: int, tried: Container[str] = (), near: Sequence[Holders] = ()
) -> View | None:
    """Choose the replica that holds most of the prompt and is not too busy, else the one with the lowest score.

    Args:
        candidates: The model's replicas.
        turn: Breaks ties: candidates are considered from this place on, round the list. A counter spreads equal
            replicas evenly.
        tried: Ids of replicas at which this request failed already.
        near: Who probably holds how much of the prompt's beginning, the most first (`PrefixIndex.match`).

    Returns:
        The choice, or None when all drain, are ejected or were tried.
    """
    best: View | None = None
    best_score = 0.0
    able = load = best_load = 0
    start = turn % len(candidates) if candidates else 0
    ordered = (*candidates[start:], *candidates[:start])
    for view in ordered:
        if view.draining or view.ejected or view.id in tried:
            continue
        # `score`, written out: with many replicas its calls would be most of the work.
        in_flight = view.in_flight
        fresh = in_flight - view.in_flight_at_report
        here = in_flight + view.others
        pressure = view.kv_usage + WAITING_WEIGHT * view.waiting + IN_FLIGHT_WEIGHT * here
        if fresh > 0:
            pressure += FRESH_WEIGHT * fresh
        if best is None or pressure < best_score:
            best, best_score, best_load = view, pressure, here
        able += 1
        load += here
    if best is None or not near:
        return best
    most = max_load(load, able)
    lacks_work = best_load + 1 < MIN_OF_MEAN * (load + 1) / able
    for holders in near:
        if lacks_work and len(holders.replicas) > 1:
            break
        nearest = _nearest(ordered, tried, holders, most, best_score + MAX_PRESSURE_OVER_BEST)
        if nearest is not None:
            return nearest
    return best


def max_load(load: int, able: int) -> float:
    """Return the most requests that a replica may come to by affinity, before rounding; never less than its first.

    Args:
        load: Requests at all replicas that could take the one to place.
        able: How many replicas that are.
    """
    return max(1.0, MAX_OVER_MEAN * (load + 1) / able)


def _fits(view: ReplicaView, matched_bytes: int, most: float) -> bool:
    return view.in_flight + view.others + 1 <= (math.ceil(most) if matched_bytes >= WORTH_ROUNDING_BYTES else most)


def _nearest(
    candidates: Sequence[View], tried: Container[str], holders: Holders, most: float, most_pressure: float
) -> View | None:
    """Return, of replicas that hold equally much, the one with the lowest pressure that may take the request."""
    best: View | None = None
    best_score = 0.0
    matched_bytes, replicas = holders
    for view in candidates:
        if view.id not in replicas or view.draining or view.ejected or view.id in tried:
            continue
        pressure = score(view)
        if pressure <= most_pressure and (best is None or pressure < best_score) and _fits(view, matched_bytes, most):
            best, best_score = view, pressure
    return best


def last_resort(
    candidates: Sequence[View], *, turn: int, tried: Container[str] = (), near: Sequence[Holders] = ()
) -> View | None:
    """Choose among ejected replicas, for when nothing better is left: an attempt may work, a refusal never does.

    What they held of the prompt does not count: one that failed has most likely lost it.
    """
    count = len(candidates)
    for place in range(count):
        view = candidates[(turn + place) % count]
        if view.ejected and not view.draining and view.id not in tried:
            return view
    return None


def matched_by(replica: str, near: Iterable[Holders]) -> int:
    """Return how many bytes of the prompt's beginning a replica probably holds."""
    return next((holders.matched_bytes for holders in near if replica in holders.replicas), 0)


def reason_of(chosen: ReplicaView, near: Sequence[Holders]) -> Reason:
    """Return what decided a pick."""
    if not near:
        return Reason.PRESSURE
    return Reason.PREFIX if matched_by(chosen.id, near) else Reason.SPREAD


def explain(candidates: Sequence[View], *, turn: int, tried: Container[str] = (), near: Sequence[Holders] = ()) -> Pick:
    """Return the same choice as `pick`, with every candidate's score and what spoke against it."""
    chosen = pick(candidates, turn=turn, tried=tried, near=near)
    able = [view for view in candidates if _rejection(view, tried) is None]
    most = max_load(sum(view.in_flight + view.others for view in able), len(able)) if able else 0.0
    lowest = min((score(view) for view in able), default=0.0)
    return Pick(
        chosen=None if chosen is None else chosen.id,
        reason=None if chosen is None else reason_of(chosen, near),
        max_load=most,
        candidates=tuple(
            Scored(
                replica=view.id,
                score=score(view),
                kv_usage=view.kv_usage,
                waiting=view.waiting,
                fresh=max(0, view.in_flight - view.in_flight_at_report),
                in_flight=view.in_flight,
                others=view.others,
                matched_bytes=matched_by(view.id, near),
                over_bound=score(view) > lowest + MAX_PRESSURE_OVER_BEST
                or not _fits(view, matched_by(view.id, near), most),
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

    def choose(
        self,
        choose: Chooser,
        *,
        point: float,
        turn: int,
        tried: Container[str] = (),
        near: Sequence[Holders] = (),
    ) -> View | None:
        """Choose a variant by weight and the replica within it.

        A variant that has no replica to give leaves its share to the others in their proportions, and no other
        variant's requests move. Those without weight come last.

        Args:
            choose: Chooses within a variant.
            point: In [0, 1): evenly spread for requests, or a session's own (`session_point`).
            turn: Breaks ties between equal replicas.
            tried: Ids of replicas at which this request failed already.
            near: Who holds how much of the prompt's beginning.
        """
        left = self._by_weight
        while left:
            mark = point * sum(weight for weight, _ in left)
            place = 0
            while place < len(left) - 1 and mark >= left[place][0]:
                mark -= left[place][0]
                place += 1
            weight, replicas = left[place]
            chosen = choose(replicas, turn=turn, tried=tried, near=near)
            if chosen is not None:
                return chosen
            # Where in its share the point fell is as evenly spread as the point was.
            point = min(mark / weight, _BELOW_1)
            left = left[:place] + left[place + 1 :]
        return choose(self._rest, turn=turn, tried=tried, near=near) if self._rest else None


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
