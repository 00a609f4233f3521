"""Objects as an API server has them, and mirrors of them that a test changes by hand."""

from __future__ import annotations

import copy
from typing import Any

from penstock_kube.reflector import Reflector
from penstock_kube.resources import Kind, Object, key_of
from penstock_operator.world import Mirror

API_VERSION = "penstock.dev/v1alpha1"


class HandMirror(Mirror):
    """A mirror that a test feeds; its reflector never runs."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind, [Reflector(None, kind)])  # type: ignore[arg-type]
        self._version = 0

    def put(self, obj: Object) -> None:
        """Have an object come or change; a change of its spec is a new generation, as an API server counts."""
        body: dict[str, Any] = copy.deepcopy(dict(obj))
        old = self.get(*key_of(body))
        metadata = body["metadata"]
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        metadata["uid"] = old["metadata"]["uid"] if old else f"uid-{self._version}"
        if old:  # no edit moves it
            metadata["creationTimestamp"] = old["metadata"].get("creationTimestamp")
        generation = old["metadata"]["generation"] if old else 0
        metadata["generation"] = generation + (old is None or old.get("spec") != body.get("spec"))
        self._tell(self.reflectors[0].store.put(body))

    def remove(self, namespace: str, name: str) -> None:
        """Have an object go."""
        store = self.reflectors[0].store
        obj = store.get(namespace, name)
        assert obj is not None
        self._tell(store.remove(key_of(obj)))

    def _tell(self, change: Any) -> None:
        for handler in self.reflectors[0]._handlers:
            handler(change)


def stored(kind: str, namespace: str, name: str, spec: dict[str, Any], created: int = 1, **metadata: Any) -> Object:
    """Return an object of ours as it is stored."""
    timestamp = f"2026-11-24T00:00:{created:02d}Z"
    meta = {"namespace": namespace, "name": name, "creationTimestamp": timestamp, **metadata}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec}


def model(namespace: str, name: str, created: int = 1, *, adapters: tuple[str, ...] = (), **metadata: Any) -> Object:
    """Return a Model."""
    spec: dict[str, Any] = {"preset": "llama-3.1-8b", "accelerator": "nvidia-h100:1"}
    if adapters:
        spec["adapters"] = [{"name": adapter, "source": "hf://a/b"} for adapter in adapters]
    return stored("Model", namespace, name, spec, created, **metadata)


def route(
    namespace: str, name: str, created: int = 1, *, backends: tuple[str, ...] = ("m",), public: str | None = None
) -> Object:
    """Return a Route."""
    spec: dict[str, Any] = {"backends": [{"model": backend} for backend in backends]}
    return stored("Route", namespace, name, spec | ({"modelName": public} if public else {}), created)


def tenant(namespace: str, name: str, created: int = 1, **spec: Any) -> Object:
    """Return a Tenant with one key, unless `keys` says otherwise."""
    keys = [{"name": "main", "secretRef": {"name": "keys", "key": "main"}}]
    return stored("Tenant", namespace, name, {"keys": keys, **spec}, created)
