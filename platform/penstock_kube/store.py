"""The last known state of a collection, with indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from penstock_kube.resources import Key, Object, key_of

IndexFunction = Callable[[Object], Iterable[str]]
"""Returns the values under which an object is found in an index."""
Trim = Callable[[dict[str, Any]], None]
"""Takes out of an object, in place, what nobody here reads."""


class Change(NamedTuple):
    """What happened to one object. Changes in quick succession may arrive as one."""

    old: Object | None
    """The object as it was; None when it is new."""
    new: Object | None
    """The object as it is; None when it is gone."""

    @property
    def key(self) -> Key:
        """The object's key."""
        return key_of(self.new or self.old or {})


class Store:
    """Objects by key, and by the values of each index.

    Objects are shared with every reader: never edit one in place.
    """

    def __init__(self, indexes: Mapping[str, IndexFunction] | None = None, trim: Trim | None = None) -> None:
        self._objects: dict[Key, Object] = {}
        self._namespaces: dict[str, set[Key]] = {}
        self._functions = dict(indexes or {})
        self._trim = trim
        self._indexes: dict[str, dict[str, set[Key]]] = {name: {} for name in self._functions}

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, namespace: str, name: str) -> Object | None:
        """Return an object, or None when there is none."""
        return self._objects.get(Key(namespace, name))

    def all(self, namespace: str | None = None) -> list[Object]:
        """Return the objects of one namespace, or all of them, in the order of their keys."""
        keys = self._objects if namespace is None else self._namespaces.get(namespace, ())
        return [self._objects[key] for key in sorted(keys)]

    def by_index(self, index: str, value: str) -> list[Object]:
        """Return the objects that an index has under a value, in the order of their keys."""
        return [self._objects[key] for key in sorted(self._indexes[index].get(value, ()))]

    def put(self, obj: dict[str, Any]) -> Change | None:
        """Keep an object; None when we have this very version already."""
        # Field managers' bookkeeping is half of many objects, and nothing here reads it.
        obj["metadata"].pop("managedFields", None)
        key = key_of(obj)
        old = self._objects.get(key)
        if old is not None and _version(old) == _version(obj):
            return None
        if self._trim is not None:
            self._trim(obj)
        self._unindex(key, old)
        self._objects[key] = obj
        self._namespaces.setdefault(key.namespace, set()).add(key)
        for name, function in self._functions.items():
            for value in function(obj):
                self._indexes[name].setdefault(value, set()).add(key)
        return Change(old, obj)

    def remove(self, key: Key) -> Change | None:
        """Forget an object; None when there was none."""
        old = self._objects.pop(key, None)
        self._unindex(key, old)
        keys = self._namespaces.get(key.namespace, set())
        keys.discard(key)
        if not keys:
            self._namespaces.pop(key.namespace, None)
        return None if old is None else Change(old, None)

    def replace(self, items: Iterable[dict[str, Any]]) -> list[Change]:
        """Make a fresh list the content, and return what differs, deletions that no watch told among it."""
        fresh = {key_of(item): item for item in items}
        gone = [self.remove(key) for key in [key for key in self._objects if key not in fresh]]
        changed = [self.put(item) for item in fresh.values()]
        return [change for change in (*gone, *changed) if change is not None]

    def _unindex(self, key: Key, old: Object | None) -> None:
        if old is None:
            return
        for name, function in self._functions.items():
            for value in function(old):
                keys = self._indexes[name].get(value, set())
                keys.discard(key)
                if not keys:
                    self._indexes[name].pop(value, None)


def _version(obj: Object) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("uid", ""), metadata["resourceVersion"]
