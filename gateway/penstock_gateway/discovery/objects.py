"""What Kubernetes objects say to a gateway: a routing ConfigMap and an EndpointSlice, read and checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.routing.published import (
    CONFIG_KEY,
    MODEL_LABEL,
    VARIANT_ANNOTATION,
    WEIGHT_ANNOTATION,
    NamespaceRouting,
    decode_routing,
)
from penstock.routing.snapshot import Replica, ReplicaState


class MalformedError(ValueError):
    """An object that does not say what it should; the message names the field."""


class PublishedRouting(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace's models, routes and tenants."""

    created: str
    """When the namespace was first published, as `creationTimestamp` has it: the earlier one has a name."""
    routing: NamespaceRouting


class PublishedSlice(msgspec.Struct, frozen=True, kw_only=True):
    """Replicas of one variant behind one port."""

    model: str
    variant: str
    weight: int | None = None
    """The variant's share; None when none is set."""
    replicas: tuple[Replica, ...] = ()


def read_routing(config_map: Mapping[str, Any]) -> PublishedRouting:
    """Read a `penstock-routing` ConfigMap.

    Raises:
        MalformedError: it has no such key, or its text is no `NamespaceRouting`.
    """
    text = (config_map.get("data") or {}).get(CONFIG_KEY)
    if text is None:
        raise MalformedError(f"data has no key {CONFIG_KEY!r}")
    try:
        routing = decode_routing(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"data[{CONFIG_KEY!r}]: {error}") from error
    return PublishedRouting(created=config_map["metadata"].get("creationTimestamp") or "", routing=routing)


def read_slice(endpoint_slice: Mapping[str, Any]) -> PublishedSlice:
    """Read an EndpointSlice of ours.

    Raises:
        MalformedError: a label, an annotation, the port or an endpoint is not as published.
    """
    metadata = endpoint_slice["metadata"]
    annotations = metadata.get("annotations") or {}
    model = (metadata.get("labels") or {}).get(MODEL_LABEL)
    variant = annotations.get(VARIANT_ANNOTATION)
    if not model or not variant:
        raise MalformedError(f"the label {MODEL_LABEL} or the annotation {VARIANT_ANNOTATION} is missing")
    endpoints = endpoint_slice.get("endpoints") or []
    port = _port(endpoint_slice) if endpoints else 0
    replicas = (_replica(endpoint, model, variant, port) for endpoint in endpoints)
    return PublishedSlice(
        model=model,
        variant=variant,
        weight=_weight(annotations.get(WEIGHT_ANNOTATION)),
        replicas=tuple(replica for replica in replicas if replica is not None),
    )


def _port(endpoint_slice: Mapping[str, Any]) -> int:
    ports = endpoint_slice.get("ports") or []
    number = ports[0].get("port") if len(ports) == 1 else None
    if not isinstance(number, int):
        raise MalformedError(f"ports: one port with a number is wanted, and {len(ports)} are given")
    return number


def _weight(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise MalformedError(f"the annotation {WEIGHT_ANNOTATION} is {text[:50]!r}: a whole number from 0 is wanted")
    return int(text)


def _replica(endpoint: Mapping[str, Any], model: str, variant: str, port: int) -> Replica | None:
    """Return an endpoint as a replica; None for one that serves nothing."""
    name, addresses = endpoint.get("hostname"), endpoint.get("addresses") or []
    if not name or not addresses:
        raise MalformedError("endpoints: one has no hostname or no address")
    conditions = endpoint.get("conditions") or {}
    ready = conditions.get("ready")
    if ready is False and not conditions.get("serving"):
        return None
    return Replica(
        id=name,
        model=model,
        variant=variant,
        address=addresses[0],
        port=port,
        state=ReplicaState.DRAINING if ready is False else ReplicaState.READY,
    )
