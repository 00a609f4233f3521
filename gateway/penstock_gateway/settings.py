"""What a gateway process is told at start, by environment variables `PENSTOCK_GATEWAY_*`, read once in `__main__`.

A group's field is named with two underscores between: `PENSTOCK_GATEWAY_DEADLINES__FIRST_BYTE_S=60`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from penstock_usage.settings import RedisUrl, StreamOptions


class Deadlines(BaseModel):
    """How long the relay waits for what. Checked every `sweep_s`, so each may be exceeded by that much."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connect_s: float = Field(default=2.0, gt=0)
    """Replicas are one network hop away: longer than this is a dead address, and another replica is waiting."""
    first_byte_s: float = Field(default=300.0, gt=0)
    """From the request's last byte at the replica to the answer's head. An answer that is not streamed has no byte
    before its last token, and a saturated engine queues."""
    between_bytes_s: float = Field(default=120.0, gt=0)
    """Within an answer. A preempted sequence can pause for many seconds; a hung engine pauses for ever."""
    request_read_s: float = Field(default=30.0, gt=0)
    """For a client to send one request whole: bounds what slow senders can hold."""
    keep_alive_s: float = Field(default=75.0, gt=0)
    """An idle client connection is closed after this: above the 60 s that load balancers in front commonly keep one."""
    client_stall_s: float = Field(default=120.0, gt=0)
    """A client that takes no bytes for so long has left: its stream holds an engine's slot and KV blocks."""
    upstream_idle_s: float = Field(default=30.0, gt=0)
    """An idle connection to a replica is closed after this. Engines commonly close theirs sooner."""
    drain_delay_s: float = Field(default=0.0, ge=0)
    """After SIGTERM new connections are served for so long: in a cluster, until Services have forgotten the pod."""
    drain_s: float = Field(default=600.0, gt=0)
    """For streams to finish after SIGTERM: the longest generation worth waiting for."""
    sweep_s: float = Field(default=0.5, gt=0)
    """How often deadlines are checked: one timer for all, since a timer per request costs more than the request."""


class Limits(BaseModel):
    """What is too much."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body_bytes: int = Field(default=32 * 1024 * 1024, gt=0)
    """A request body; images inline as base64 make the large ones."""
    head_bytes: int = Field(default=64 * 1024, gt=0)
    """Request line and headers together."""
    header_count: int = Field(default=100, gt=0)
    answer_bytes: int = Field(default=256 * 1024 * 1024, gt=0)
    """An answer that is not streamed, which is held until its usage is known; a batch of embeddings is the largest."""
    event_bytes: int = Field(default=16 * 1024 * 1024, gt=0)
    """One event of a stream."""


class Retries(BaseModel):
    """How a request survives a replica that fails before it answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tries: int = Field(default=3, ge=1)
    """Replicas that one request may be sent to, the first included."""
    eject_min_s: float = Field(default=1.0, gt=0)
    """First back-off of an ejected replica; doubles with each probe that fails."""
    eject_max_s: float = Field(default=30.0, gt=0)
    """Longest back-off: a replica that is back is used again after at most this."""


class KubernetesOptions(BaseModel):
    """Discovery of models, replicas, routes and tenants in a cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = False
    """Route by what the operator publishes in the cluster, instead of by a snapshot file."""
    namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Namespaces to serve, with commas between, or as a JSON list; all of them when empty. Each listed one needs a
    Role, none a ClusterRole."""
    kubeconfig: Path | None = None
    """A kubeconfig; as `kubectl` finds one, or the pod's service account, when None."""
    anonymous_tenant: str | None = None
    """The tenant of requests without a key, which may use everything; None refuses them."""
    cache_file: Path | None = None
    """What was last known, for a process that starts while the API server is away; on the spool's volume, say."""
    first_lists_s: float = Field(default=10.0, ge=0)
    """How long every namespace's first list is waited for, before those that have one are served without the rest."""
    retry_cap_s: float = Field(default=10.0, gt=0)
    """Longest wait between tries while the API server is away."""

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        if given.lstrip().startswith("["):
            return json.loads(given)
        return tuple(name for part in given.split(",") if (name := part.strip()))


class StartError(Exception):
    """What the settings ask for cannot be had; the message names the setting."""


class Settings(BaseSettings):
    """One gateway process."""

    model_config = SettingsConfigDict(
        env_prefix="PENSTOCK_GATEWAY_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    data_host: str = "127.0.0.1"
    data_port: int = Field(default=8000, ge=0, le=65535)
    """Inference and `/healthz`; 0 takes a free port, named in the `listening` log line."""
    admin_host: str = "127.0.0.1"
    admin_port: int = Field(default=8001, ge=0, le=65535)
    """Admin API, metrics and docs. Keep it off public networks; `admin_token` guards what is not a probe."""
    admin_token: SecretStr | None = None
    """Bearer token of the admin API; None, and no file either, leaves it open to whoever reaches the port."""
    admin_token_file: Path | None = Field(default=None, validate_default=True)
    """A file that holds the token, and may be replaced while the process runs."""
    kubernetes: KubernetesOptions = KubernetesOptions()
    snapshot_file: Path | None = Field(default=None, validate_default=True)
    """The routing snapshot, replaced by rename whenever it changes; None in a cluster."""
    snapshot_poll_s: float = Field(default=0.2, gt=0)
    """How often the file is looked at (one `stat`): bounds how late a drain is noticed."""
    pepper_file: Path | None = None
    """Secret under which tenant keys are hashed; needed as soon as the snapshot has a tenant with keys."""
    spool_directory: Path
    """Where usage records wait for the ledger."""
    spool_limit_bytes: int = Field(default=1024**3, ge=1024**2)
    """Size of the spool from which on records are refused, counted and lost: less than its volume holds, since a volume
    that overflows takes all records with it. About two million requests."""
    redis_url: SecretStr | None = None
    """Redis of the usage stream, `rediss://user:password@host:6380/0`. None: a ledger reads the spool where it is."""
    redis_url_file: Path | None = Field(default=None, validate_default=True)
    """File with that URL, in place of `redis_url`; read again for every connection."""
    stream: StreamOptions = StreamOptions()
    flush_s: float = Field(default=15.0, ge=0)
    """At the end, for the ledger to commit the last records: what stays behind is lost with a pod's own disk."""
    load_poll_s: float = Field(default=1.0, gt=0)
    """How often each replica's metrics are read."""
    reuse_port: bool = False
    """Several processes on one data port; the kernel spreads connections."""
    access_log: bool = False
    """One JSON line per request on standard error. Never prompts, answers or keys."""
    deadlines: Deadlines = Deadlines()
    limits: Limits = Limits()
    retries: Retries = Retries()

    @field_validator("redis_url_file")
    @classmethod
    def _one_redis(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        RedisUrl.of(info.data.get("redis_url"), file)
        return file

    @field_validator("snapshot_file")
    @classmethod
    def _one_source(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        options = info.data.get("kubernetes")
        if options is not None and (file is None) is not options.enabled:
            given = "neither is" if file is None else "both are"
            raise ValueError(
                f"{given} given: name a snapshot file, or set PENSTOCK_GATEWAY_KUBERNETES__ENABLED=true in a cluster"
            )
        return file

    @field_validator("admin_token_file")
    @classmethod
    def _one_token(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.data.get("admin_token") is not None:
            raise ValueError("PENSTOCK_GATEWAY_ADMIN_TOKEN is set too: keep one of them")
        return file
