"""The routing snapshot: all that a gateway knows about models, replicas, routes and tenants, in one immutable value.

Operators write it, gateways read it. In a cluster it is compiled from EndpointSlices, Routes and Tenants; on one
machine the local operator writes it to a file. A gateway swaps it whole and never edits it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class ReplicaState(StrEnum):
    """What a gateway may do with a replica."""

    READY = "Ready"
    DRAINING = "Draining"
    """Finishes what it has; gets nothing new."""


class Task(StrEnum):
    """What a model does, which decides the paths it answers."""

    GENERATE = "Generate"
    EMBED = "Embed"


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One engine replica with a port of its own."""

    id: str
    """Ray Serve's replica id, unique within the platform."""
    model: str
    variant: str
    """One accelerator class, purchase and engine revision of the model; a Ray Serve application's name."""
    address: str
    port: int
    state: ReplicaState = ReplicaState.READY
    prefix: str | None = None
    """Path in front of the engine's own paths; None for Ray Serve's, `/<variant>`, and "" for a bare engine."""

    @property
    def base_path(self) -> str:
        """What every request path at this replica begins with, without a slash at its end."""
        if self.prefix is not None:
            return self.prefix.rstrip("/")
        return f"/{self.variant}" if self.variant else ""


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that clients may name, with or without replicas at the moment."""

    name: str
    task: Task = Task.GENERATE
    created_s: int = 0
    """Unix seconds, shown as `created` in `/v1/models`."""
    context_length: int | None = None
    """Tokens, prompt and completion together; None when the engine decides."""
    adapters: tuple[str, ...] = ()
    """LoRA adapters; each is a model name of its own to clients."""
    engine: str = "vLLM"


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """One target of a route."""

    model: str
    weight: int = 1


class VariantShare(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a model's traffic one of its variants takes while several serve, as in a rollout."""

    model: str
    variant: str
    weight: int
    """Relative to the model's other variants; 0 takes nothing new as long as another variant can."""


class CompiledRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A public model name and the models that answer to it."""

    name: str
    backends: tuple[Backend, ...]
    fallbacks: tuple[str, ...] = ()
    """Models tried in order when no backend has a replica that takes the request."""


class CompiledTenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant as gateways see it: hashes, never keys."""

    name: str
    key_hashes: tuple[str, ...] = ()
    """Hex HMAC-SHA256 of each key under the platform's pepper (`penstock.routing.keys`)."""
    allowed: tuple[str, ...] | None = None
    """Route and model names this tenant may use; None for all."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    priority: int = 0


class RoutingSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a gateway routes by. `version` grows with every change of content."""

    version: int = 0
    models: tuple[ServedModel, ...] = ()
    replicas: tuple[Replica, ...] = ()
    shares: tuple[VariantShare, ...] = ()
    """Variants whose share is set; the replicas of a model without any are equal."""
    routes: tuple[CompiledRoute, ...] = ()
    tenants: tuple[CompiledTenant, ...] = ()
    anonymous_tenant: str | None = None
    """The tenant of requests without a key; None when a key is required."""


def encode_snapshot(snapshot: RoutingSnapshot) -> bytes:
    """Return the snapshot as JSON bytes."""
    return msgspec.json.encode(snapshot)


def decode_snapshot(data: bytes) -> RoutingSnapshot:
    """Read a snapshot from JSON bytes.

    Raises:
        msgspec.DecodeError: the bytes are not JSON, or not a snapshot; the message names the path.
    """
    return msgspec.json.decode(data, type=RoutingSnapshot)
