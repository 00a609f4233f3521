"""The revisions of a Model's applications, and which part each plays in a rollout. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Self

import msgspec


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """An application of the Model as it is now, with its share of the Model's target."""

    name: str
    target: int


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """An application of the Model that Serve has."""

    name: str
    target: int
    """Replicas that Serve aims at; while it builds, those it was given."""
    ready: int
    """Replicas that take requests."""
    replicas: int
    """All that have not ended, those that start and drain among them."""
    failed: str | None = None
    """Why Serve has given up starting it, in the engine's words."""


class Revisions(msgspec.Struct, frozen=True, kw_only=True):
    """Who plays which part: all applications of one Model, those it wants and those it has."""

    wanted: tuple[Wanted, ...]
    running: Mapping[str, Running]
    stable: tuple[str, ...]
    """Those that carry the Model: they are there, and have had a replica that took requests."""
    old: tuple[str, ...]
    """Stable ones that are not wanted any more and have not been told to go."""
    leaving: tuple[str, ...]
    """Those that have been told to go, or never got as far as taking over."""

    @classmethod
    def assign(cls, wanted: Sequence[Wanted], running: Sequence[Running], stable: Iterable[str] | None) -> Self:
        """Return who plays which part.

        Args:
            wanted: The Model's applications as it is now.
            running: Its applications that Serve has.
            stable: Those that carried it when last looked at; None when nobody remembers. Then what serves and is not
                wanted any more counts as such, and what is wanted and complete.
        """
        by_name = {app.name: app for app in running}
        names = {want.name for want in wanted}
        outdated = [app for app in running if app.name not in names]
        if stable is None:
            complete = {
                want.name for want in wanted if want.name in by_name and 0 < want.target <= by_name[want.name].ready
            }
            known = {app.name for app in outdated if app.ready and app.target} | complete
        else:
            known = by_name.keys() & set(stable)
        old = tuple(app.name for app in outdated if app.name in known and app.target)
        leaving = tuple(app.name for app in outdated if app.name not in old and app.replicas)
        kept = tuple(sorted(known & (names | set(old))))
        return cls(wanted=tuple(wanted), running=by_name, stable=kept, old=old, leaving=leaving)

    @property
    def target(self) -> int:
        """Replicas that the Model is to have."""
        return sum(want.target for want in self.wanted)

    @property
    def new(self) -> tuple[Wanted, ...]:
        """Wanted ones that do not carry the Model yet."""
        return tuple(want for want in self.wanted if want.name not in self.stable)

    @property
    def kept(self) -> tuple[Wanted, ...]:
        """Wanted ones that carry the Model already."""
        return tuple(want for want in self.wanted if want.name in self.stable)

    @property
    def carriers(self) -> tuple[str, ...]:
        """All that carry the Model now."""
        return (*(want.name for want in self.kept), *self.old)

    @property
    def has_taken_over(self) -> bool:
        """Whether the wanted ones can carry at least as much as the stable ones, or all that is to be carried."""
        carried = self.ready(self.carriers)
        return self.ready(want.name for want in self.wanted) >= min(self.target, max(1, carried))

    def ready(self, names: Iterable[str]) -> int:
        """Return how many replicas of these take requests."""
        return sum(self.running[name].ready for name in names if name in self.running)

    def failure(self) -> tuple[str, str] | None:
        """Return a new application that did not start, and why."""
        for want in self.new:
            app = self.running.get(want.name)
            if app is not None and app.failed is not None:
                return want.name, app.failed
        return None

    def held(self, wanted: Sequence[Wanted], counted: Container[str]) -> dict[str, int]:
        """Return the targets of applications that take requests: none gives up what another one is yet to replace.

        Args:
            wanted: Some of the wanted ones.
            counted: Names of those whose ready replicas count as a replacement.
        """
        missing = {
            want.name: max(0, want.target - (self.ready([want.name]) if want.name in counted else 0))
            for want in self.wanted
        }
        targets: dict[str, int] = {}
        for want in wanted:
            has = self.running[want.name].target if want.name in self.running else 0
            others = sum(missing.values()) - missing[want.name]
            targets[want.name] = want.target + min(max(0, has - want.target), others)
        return targets

    def first(self, total: int) -> dict[str, int]:
        """Divide replicas among the new ones in their order, each up to its own target; those without any left out."""
        counts: dict[str, int] = {}
        for want in self.new:
            counts[want.name] = min(want.target, total - sum(counts.values()))
        return {name: count for name, count in counts.items() if count}


def follow(targets: Mapping[str, int], ready: Mapping[str, int], total: int) -> dict[str, int]:
    """Return targets that add up to `total`: replicas that take no requests yet go before those that do.

    Among equals the last ones give first, and the first one takes.

    Args:
        targets: Replicas that each application aims at.
        ready: How many of them take requests.
        total: What is to be left in all.
    """
    surplus = sum(targets.values()) - total
    after = dict(targets)
    for spared in (ready, {}):
        for name in reversed(list(targets)):
            given = min(max(0, surplus), max(0, after[name] - spared.get(name, 0)))
            after[name] -= given
            surplus -= given
    if surplus < 0:
        first = next(iter(targets))
        after[first] -= surplus
    return after
