"""A mirror as it will be once it has heard of our own last writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from penstock_kube.client import KubeClient
from penstock_kube.errors import ConflictError, NotFoundError
from penstock_kube.resources import Key, Object, key_of
from penstock_kube.store import Change
from penstock_operator.world import Mirror

_LONGEST_S: Final = 30.0
"""How long our word counts at most: watches are resumed much sooner."""


class Mirrored:
    """Reads objects from a mirror, and writes them. A watch tells of a write a moment later: until then ours counts.

    Without that every plan between the two would be made from the past, and would write the same once more.
    """

    def __init__(self, client: KubeClient, mirror: Mirror, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._mirror = mirror
        self._clock = clock
        self._written: dict[Key, tuple[float, Object | None]] = {}
        """When we wrote what the mirror has not heard of, and what came of it; None for a deletion."""
        for reflector in mirror.reflectors:
            reflector.add_handler(self._heard)

    def get(self, namespace: str, name: str) -> Object | None:
        """Return an object, or None when there is none."""
        written = self._fresh().get(Key(namespace, name))
        return self._mirror.get(namespace, name) if written is None else written[1]

    def all(self, namespace: str) -> list[Object]:
        """Return the objects of a namespace in the order of their names."""
        latest: dict[Key, Object | None] = {key_of(obj): obj for obj in self._mirror.all(namespace)}
        latest |= {key: obj for key, (_, obj) in self._fresh().items() if key.namespace == namespace}
        return [obj for _, obj in sorted(latest.items(), key=lambda item: item[0]) if obj is not None]

    async def apply(self, obj: Object) -> None:
        """Make the fields of an object ours.

        Raises:
            KubeError: as `KubeClient.apply` does.
        """
        key = key_of(obj)
        before = self._mirror.get(*key)
        try:
            after = await self._client.apply(self._mirror.kind, obj)
        except (ConflictError, NotFoundError):
            self._written.pop(key, None)  # what we took for the present is the past
            raise
        self._note(key, before, after)

    async def delete(self, obj: Object) -> None:
        """Delete this very object; one that is gone or was made anew is left alone.

        Raises:
            KubeError: as `KubeClient.delete` does.
        """
        key = key_of(obj)
        before = self._mirror.get(*key)
        try:
            await self._client.delete(self._mirror.kind, *key, uid=obj["metadata"].get("uid"))
        except ConflictError:
            self._written.pop(key, None)
            return
        self._note(key, before, None)

    def _note(self, key: Key, before: Object | None, after: Object | None) -> None:
        # A mirror that has moved on during the call shows our write already, or a later one.
        if self._mirror.get(*key) is before:
            self._written[key] = (self._clock(), after)

    def _fresh(self) -> dict[Key, tuple[float, Object | None]]:
        # An object that came and went while the watch was interrupted is never heard of.
        oldest_s = self._clock() - _LONGEST_S
        self._written = {key: written for key, written in self._written.items() if written[0] > oldest_s}
        return self._written

    def _heard(self, change: Change) -> None:
        self._written.pop(change.key, None)
