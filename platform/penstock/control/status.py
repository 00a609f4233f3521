"""What `penstock up` tells the world of itself: `status.json`, and the timeline of changes in `events.jsonl`."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from penstock.scaling.snapshot import ReplicaPhase


class ConditionType(StrEnum):
    """What a condition is about, as on the custom resource."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    FITS = "Fits"


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One statement about a model, with its reason and, when something is wrong, the remedy."""

    type: ConditionType
    status: bool | None
    """None when nobody could look: `Unknown` on the custom resource."""
    reason: str
    """CamelCase."""
    message: str
    since_s: float
    """Unix seconds at which `status` last changed."""


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One replica as last seen."""

    id: str
    variant: str
    state: ReplicaPhase
    since_s: float
    """Unix seconds at which it entered `state`."""
    pid: int | None = None
    """The Serve replica's process; None for the first second of a start."""
    engine_pid: int | None = None
    """The engine core below it, when one is found."""
    address: str | None = None
    port: int | None = None
    kv_usage: float | None = None
    """0 to 1; None while its metrics page does not answer. Likewise the next three."""
    running: int | None = None
    waiting: int | None = None
    preemptions: int | None = None
    accelerator_class: str = ""
    purchase: str = ""


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One model as last seen."""

    name: str
    namespace: str = "default"
    generation: int = 0
    """`metadata.generation` of the Model that was looked at, 0 on one machine: what is said holds of that one."""
    target: int
    ready: int
    starting: int
    draining: int
    replicas: tuple[ReplicaStatus, ...]
    conditions: tuple[Condition, ...]
    decision: dict[str, Any] | None = None
    """The last scaling decision, as written to `decisions.jsonl`."""
    why: str = ""
    """The decision's ruling reason in a word or two."""
    kv_usage: float | None = None
    """The highest of its ready replicas, 0 to 1."""
    queue: int = 0
    """Requests waiting, in engines and gateways."""
    prompt_tokens_per_s: float = 0.0
    completion_tokens_per_s: float = 0.0
    ttft_p95_s: float | None = None
    """Over the last minute; None without a stream in it."""
    usd_per_hour: float = 0.0
    """Of all its replicas now."""
    usd_per_million_tokens: float | None = None
    """Blended, over the platform's whole run; None before the first token."""
    idle_share: float | None = None
    """Part of what was paid that no request used, 0 to 1."""
    since_s: float = 0.0
    """Unix seconds at which the model was first seen."""


class PlatformStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`status.json`."""

    at_s: float
    """Unix seconds; much older than now means that the operator is gone."""
    started_s: float
    pid: int
    data_url: str
    admin_url: str
    metrics_url: str
    dashboard_url: str
    phase: str
    """`Starting`, `Running` or `Stopping`."""
    message: str = ""
    """What it is doing or what is wrong with the manifests, in words."""
    models: tuple[ModelStatus, ...] = ()
    snapshot_version: int = 0


class TimelineEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One change, a line of `events.jsonl`."""

    t_s: float
    """Unix seconds."""
    kind: str
    """`Platform`, `Target`, `Replica`, `Condition` or `Manifest`."""
    model: str | None
    text: str
