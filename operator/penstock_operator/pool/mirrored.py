"""A mirror as it will be once it has heard of our own last writes."""

from __future__ import annotations

from penstock_kube.client import KubeClient
from penstock_kube.errors import ConflictError, NotFoundError
from penstock_kube.resources import Key, Object, key_of
from penstock_operator.world import Mirror


class Mirrored:
    """Reads objects from a mirror, and writes them. A watch tells of a write a moment later: until then ours counts.

    Without that every plan between the two would be made from the past, and would write the same once more.
    """

    def __init__(self, client: KubeClient, mirror: Mirror) -> None:
        self._client = client
        self._mirror = mirror
        self._written: dict[Key, tuple[str | None, Object | None]] = {}
        """By key, the version that the mirror had when we wrote, and what came of it; None for a deletion."""

    def get(self, namespace: str, name: str) -> Object | None:
        """Return an object, or None when there is none."""
        return self._latest(Key(namespace, name), self._mirror.get(namespace, name))

    def all(self, namespace: str) -> list[Object]:
        """Return the objects of a namespace in the order of their names."""
        known = {key_of(obj): obj for obj in self._mirror.all(namespace)}
        keys = known.keys() | {key for key in self._written if key.namespace == namespace}
        latest = (self._latest(key, known.get(key)) for key in sorted(keys))
        return [obj for obj in latest if obj is not None]

    async def apply(self, obj: Object) -> None:
        """Make the fields of an object ours.

        Raises:
            KubeError: as `KubeClient.apply` does.
        """
        key = key_of(obj)
        before = _version(self._mirror.get(*key))
        try:
            after = await self._client.apply(self._mirror.kind, obj)
        except (ConflictError, NotFoundError):
            self._written.pop(key, None)  # what we took for the present is the past
            raise
        self._written[key] = (before, after)

    async def delete(self, obj: Object) -> None:
        """Delete this very object; one that is gone or was made anew is left alone.

        Raises:
            KubeError: as `KubeClient.delete` does.
        """
        key = key_of(obj)
        before = _version(self._mirror.get(*key))
        try:
            await self._client.delete(self._mirror.kind, *key, uid=obj["metadata"].get("uid"))
        except ConflictError:
            self._written.pop(key, None)
            return
        self._written[key] = (before, None)

    def _latest(self, key: Key, mirrored: Object | None) -> Object | None:
        if key not in self._written:
            return mirrored
        before, ours = self._written[key]
        if _version(mirrored) == before:
            return ours
        del self._written[key]
        return mirrored


def _version(obj: Object | None) -> str | None:
    return None if obj is None else f"{obj['metadata'].get('uid')}/{obj['metadata']['resourceVersion']}"
