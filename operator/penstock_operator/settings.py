"""What an operator process is told at start, by environment variables `PENSTOCK_OPERATOR_*`, read once in `__main__`.

A group's field is named with two underscores between: `PENSTOCK_OPERATOR_RAY__IMAGE=registry/penstock-engine:0.1.0`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from penstock_usage.settings import RedisUrl, StreamOptions


class LeaseOptions(BaseModel):
    """The election."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "penstock-operator"
    duration_s: int = Field(default=15, ge=3)
    """How long candidates wait for a leader that shows no life."""
    renew_deadline_s: float = Field(default=10.0, gt=0)
    """How long a leader that cannot renew goes on writing."""
    retry_s: float = Field(default=2.0, gt=0)


class RayOptions(BaseModel):
    """The Ray clusters that pools are made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = "2.60.0"
    """Ray's version in the engine image, which KubeRay wants to be told."""
    image: str = "penstock-engine:0.1.0"
    """Engine image of Models that name none; also the head's."""
    engine_version: str = "0.32.0"
    """vLLM's version in that image."""
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    dashboard_url: str = "http://{service}.{namespace}.svc:8265"
    """Where a pool's Ray dashboard is; `{service}` is the head service's name. Tests put a server of theirs here."""
    gcs_redis_address: str | None = None
    """Redis for GCS fault tolerance, `redis:6379`; a head that is lost takes its replicas along when None."""
    gcs_redis_secret: str | None = None
    """Secret with the key `password` for that Redis, in each namespace that has Models."""
    head_cpu: str = "500m"
    """CPU that a head asks for; it runs Ray's control plane and no engine."""
    head_memory: str = "4Gi"
    """Memory that a head asks for, which is also its limit."""
    idle_timeout_s: int = Field(default=60, ge=1)
    """How long the Ray autoscaler keeps a worker pod that no replica uses."""
    cache_claim: str | None = None
    """PersistentVolumeClaim with downloaded weights, in each namespace; it goes before `cache_host_path`."""
    pull_ahead: bool = True
    """Whether engine images are pulled onto the nodes of a class before a replica needs them, by a DaemonSet for each
    class that has a node selector."""
    cache_host_path: str | None = None
    """Folder on each node for downloaded weights; a pod's own disk when both are None."""
    network_policy: bool = True
    """Whether each pool has a NetworkPolicy that admits those of `NetworkOptions` only. One that is there goes when
    this is False."""


class NetworkOptions(BaseModel):
    """Whom the NetworkPolicies of pools admit. Gateways and operator are in the operator's own namespace."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gateway_labels: dict[str, str] = Field(
        default={"app.kubernetes.io/part-of": "penstock", "app.kubernetes.io/component": "gateway"}, min_length=1
    )
    """Labels of gateways' pods, which may reach engines."""
    operator_labels: dict[str, str] = Field(
        default={"app.kubernetes.io/part-of": "penstock", "app.kubernetes.io/component": "operator"}, min_length=1
    )
    """Labels of operators' pods, which may reach engines and Ray's dashboard."""
    ray_operators: tuple[dict[str, Any], ...] = (
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/component": "kuberay-operator"}}},
    )
    """KubeRay's operator, as peers of a NetworkPolicy: it may reach Ray's dashboard."""
    monitoring: tuple[dict[str, Any], ...] = ()
    """Who may read Ray's own metrics, as peers of a NetworkPolicy."""


class Settings(BaseSettings):
    """One operator process."""

    model_config = SettingsConfigDict(
        env_prefix="PENSTOCK_OPERATOR_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    namespace: str = "penstock"
    """Where the operator itself, its Lease and its Secrets are."""
    pod_name: str = "penstock-operator"
    """This process's identity in the election; with it, people's tools find the leader."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces to serve; all of them when empty. Each listed one needs a Role, none a ClusterRole."""
    http_host: str = "0.0.0.0"  # noqa: S104 - the kubelet probes from outside the pod
    http_port: int = Field(default=8080, ge=0, le=65535)
    """Probes, metrics, and the answers for `penstock status` and `penstock why`."""
    gateway_service: str = "penstock-gateway-admin"
    """Service of the gateways' admin port in `namespace`; its EndpointSlices say where each gateway process is."""
    gateway_token_file: Path | None = None
    """Bearer token of the gateways' admin port."""
    pepper_file: Path | None = None
    """Secret under which tenant keys are hashed, the same as the gateways'."""
    spool_directory: Path = Path("/var/lib/penstock/spool")
    """Where replica events wait for the ledger."""
    spool_limit_bytes: int = Field(default=512 * 1024**2, ge=1024**2)
    """Size of the spool from which on events are refused, counted and lost: less than its volume holds."""
    redis_url: SecretStr | None = None
    """Redis of the usage stream, `rediss://user:password@host:6380/0`; records stay in the spool when None."""
    redis_url_file: Path | None = Field(default=None, validate_default=True)
    """File with that URL, in place of `redis_url`; read again for every connection."""
    stream: StreamOptions = StreamOptions()
    """The usage stream."""
    flush_s: float = Field(default=5.0, ge=0)
    """How long the end of the process waits for the ledger to have its last records."""
    ledger_url: str | None = None
    """The ledger's answers, `http://penstock-ledger:8090`; Models show no cost when None."""
    tick_s: float = Field(default=1.0, gt=0)
    """How often each pool is looked at."""
    status_period_s: float = Field(default=5.0, gt=0)
    """How often load figures may change a Model's status."""
    access_kubeconfig: Path | None = None
    """A kubeconfig; the pod's service account when None."""
    lease: LeaseOptions = LeaseOptions()
    ray: RayOptions = RayOptions()
    network: NetworkOptions = NetworkOptions()

    @property
    def where(self) -> RedisUrl | None:
        """Where the usage stream is."""
        return RedisUrl.of(self.redis_url, self.redis_url_file)

    @field_validator("redis_url_file")
    @classmethod
    def _one_redis(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        RedisUrl.of(info.data.get("redis_url"), file)
        return file
