"""What controllers share in memory: mirrors of the API server, and each Model as its pool last saw it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from penstock.control.status import ModelStatus
from penstock_kube.reflector import Reflector
from penstock_kube.resources import Key, Kind, Object

Listener = Callable[[Key], None]
"""Called with the key of a Model whose view has changed."""


class Mirror:
    """One kind as the API server has it: one reflector for all namespaces, or one for each that is watched."""

    def __init__(self, kind: Kind, reflectors: Iterable[Reflector]) -> None:
        self.kind = kind
        self.reflectors = tuple(reflectors)

    def get(self, namespace: str, name: str) -> Object | None:
        """Return one object, or None when there is none."""
        found = (reflector.store.get(namespace, name) for reflector in self.reflectors)
        return next((obj for obj in found if obj is not None), None)

    def all(self, namespace: str | None = None) -> list[Object]:
        """Return the objects of one namespace, or all, in the order of their keys."""
        return [obj for reflector in self.reflectors for obj in reflector.store.all(namespace)]

    def by_index(self, index: str, value: str) -> list[Object]:
        """Return what an index has under a value."""
        return [obj for reflector in self.reflectors for obj in reflector.store.by_index(index, value)]

    @property
    def has_synced(self) -> bool:
        """Whether every first list has been read."""
        return all(reflector.has_synced for reflector in self.reflectors)


@dataclass
class World:
    """What the leader knows."""

    models: Mirror
    classes: Mirror
    routes: Mirror
    tenants: Mirror
    ray_clusters: Mirror
    pods: Mirror
    """Pods of our Ray clusters only: those with the label `pool.names.MANAGED`."""
    gateways: Mirror
    """EndpointSlices of the gateway's admin Service."""
    slices: Mirror
    """EndpointSlices that pools publish: those with the label `routing.published.MANAGED_BY`."""
    _views: dict[Key, ModelStatus] = field(default_factory=dict)
    _gone: set[Key] = field(default_factory=set)
    _scaled: dict[Key, int] = field(default_factory=dict)
    _listeners: list[Listener] = field(default_factory=list)

    @property
    def mirrors(self) -> tuple[Mirror, ...]:
        """All mirrors, for whoever runs them."""
        return (
            self.models,
            self.classes,
            self.routes,
            self.tenants,
            self.ray_clusters,
            self.pods,
            self.gateways,
            self.slices,
        )

    def on_view(self, listener: Listener) -> None:
        """Have `listener` called whenever a Model's view changes or goes."""
        self._listeners.append(listener)

    def view(self, key: Key) -> ModelStatus | None:
        """Return a Model as its pool last saw it; None before the first look, and when nothing is left of it."""
        return self._views.get(key)

    def views(self, namespace: str | None = None) -> list[ModelStatus]:
        """Return the Models of one namespace, or all, as their pools last saw them, in the order of their keys."""
        return [view for key, view in sorted(self._views.items()) if namespace in (None, key.namespace)]

    def show(self, key: Key, status: ModelStatus) -> None:
        """Replace a Model's view."""
        self._gone.discard(key)
        if self._views.get(key) != status:
            self._views[key] = status
            self._tell(key)

    def forget(self, key: Key) -> None:
        """Say that no replica and no application is left of a Model that is not wanted; it may never have been shown.

        A Model that is being deleted keeps its finalizer until this is said of it.
        """
        if key not in self._gone:
            self._views.pop(key, None)
            self._gone.add(key)
            self._tell(key)

    def is_gone(self, key: Key) -> bool:
        """Return whether nothing is left of a Model; false while nobody has looked."""
        return key in self._gone

    def let_go(self, key: Key) -> None:
        """Drop all that is kept of a Model whose object is gone: somebody may have taken its finalizer away."""
        self._views.pop(key, None)
        self._gone.discard(key)
        self._scaled.pop(key, None)

    def note_scaled(self, key: Key, replicas: int) -> None:
        """Note the number in a Model's `spec.replicas` that is no news: one that we wrote, or a wish that was heard."""
        self._scaled[key] = replicas

    def scaled(self, key: Key) -> int | None:
        """Return the number in `spec.replicas` that is no news: any other there is somebody else's wish."""
        return self._scaled.get(key)

    def _tell(self, key: Key) -> None:
        for listener in self._listeners:
            listener(key)
