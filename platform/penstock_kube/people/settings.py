"""Where Penstock itself is in a cluster, by environment variables `PENSTOCK_CLUSTER_*`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class PeopleSettings(BaseSettings):
    """The names that `helm install penstock` gives; another release has others."""

    model_config = SettingsConfigDict(env_prefix="PENSTOCK_CLUSTER_", frozen=True, extra="ignore")

    namespace: str = "penstock"
    """Namespace that Penstock is installed in."""
    lease: str = "penstock-operator"
    """Lease whose holder is the pod of the operator that leads."""
    operator_port: int = Field(default=8080, ge=1, le=65535)
    """Port on which the operator answers."""
    ledger: str = "penstock-ledger"
    """Service of the ledger."""
    ledger_port: int = Field(default=8090, ge=1, le=65535)
    """Port of that Service."""
    timeout_s: float = Field(default=10.0, gt=0)
    """Longest time for one call."""
