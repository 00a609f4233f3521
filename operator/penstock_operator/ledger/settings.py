"""What a ledger process is told at start, by environment variables `PENSTOCK_LEDGER_*`, read once in `__main__`.

A group's field is named with two underscores between: `PENSTOCK_LEDGER_STREAM__NAME=penstock:usage`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from penstock_usage.settings import RedisUrl, StreamOptions


class Settings(BaseSettings):
    """One ledger process."""

    model_config = SettingsConfigDict(
        env_prefix="PENSTOCK_LEDGER_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    redis_url: SecretStr | None = None
    """Redis of the usage stream, `rediss://user:password@host:6380/0`."""
    redis_url_file: Path | None = None
    """File with that URL, in place of `redis_url`; read again for every connection."""
    database: Path = Path("/var/lib/penstock/ledger/ledger.sqlite")
    """The books, on a volume that outlives the pod."""
    database_url: SecretStr | None = None
    """For databases on a server, of which none is supported yet."""
    http_host: str = "0.0.0.0"  # noqa: S104 - asked through the API server's proxy, probed by the kubelet
    http_port: int = Field(default=8090, ge=0, le=65535)
    """Probes, metrics, reports and receipts; 0 takes a free port, named in the log."""
    settle_period_s: float = Field(default=5.0, gt=0)
    """How often amounts are settled and the reports that metrics show are made anew."""
    settle_lag_s: float = Field(default=15.0, ge=0)
    """Settling stays this far behind: replica events come by another way than requests and may be slower."""
    settle_grace_s: float = Field(default=60.0, ge=0)
    """After a start or an outage of the stream nothing newer is settled until it has been read for so long: a process
    that began meanwhile must be heard first. Longer than shippers take to notice that Redis is back."""
    writer_lost_after_s: float = Field(default=900.0, gt=0)
    """A process that has not marked for so long, while the stream could be read, is taken for dead together with its
    disk. Until then nothing that it may still tell of is settled; what it tells afterwards is counted as late."""
    stream: StreamOptions = StreamOptions()

    @field_validator("database_url")
    @classmethod
    def _no_server(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and url.get_secret_value():
            scheme = url.get_secret_value().split("://", 1)[0]
            raise ValueError(
                f"{scheme}:// is not supported: the ledger keeps its books in SQLite; "
                "leave this out and set PENSTOCK_LEDGER_DATABASE to a file on a persistent volume"
            )
        return None

    @model_validator(mode="after")
    def _one_redis(self) -> Self:
        if self.where is None:
            raise ValueError(
                "no Redis: set PENSTOCK_LEDGER_REDIS_URL, or PENSTOCK_LEDGER_REDIS_URL_FILE to a file with the URL"
            )
        return self

    @property
    def where(self) -> RedisUrl | None:
        """Where Redis is."""
        return RedisUrl.of(self.redis_url, self.redis_url_file)
