"""How the usage stream is reached and how much may lie in it: the same fields for those who ship and the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

_SCHEMES = ("redis", "rediss", "unix")


class StreamOptions(BaseModel):
    """The usage stream. Both ends use one `name`; the rest may differ."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="penstock:usage", min_length=1, max_length=200, pattern=r"^[^{}\s]+$")
    """Prefix of the keys in Redis. Two platforms that share a Redis need two names."""
    connect_s: float = Field(default=3.0, gt=0)
    """For a connection and its TLS handshake."""
    answer_s: float = Field(default=5.0, gt=0)
    """For an answer; a Redis that stays silent for longer counts as away."""
    backoff_min_s: float = Field(default=0.5, gt=0)
    backoff_max_s: float = Field(default=15.0, gt=0)
    """Longest wait between two tries, before jitter: bounds how late a Redis that is back is noticed."""
    period_s: float = Field(default=1.0, gt=0)
    """How often a shipper looks at its spool and at what is acknowledged, while there is little to send."""
    batch_bytes: int = Field(default=64 * 1024, ge=1024)
    """Size of one entry; a single longer record makes a longer one."""
    window_bytes: int = Field(default=4 * 1024 * 1024, ge=64 * 1024)
    """What one process may have in the stream without an acknowledgement."""
    stream_entries: int = Field(default=1024, ge=16)
    """Entries in the stream from which on shippers wait. With `batch_bytes`, what Redis must have room for: 64 MiB."""
    tls_ca_file: Path | None = None
    """Authority of a `rediss://` server's certificate; the system's when None."""


class RedisUrlError(ValueError):
    """No URL of Redis. The message never holds it, since it may hold a password."""


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where Redis is, and the password in it. A file is read again for every connection."""

    url: SecretStr | None = None
    file: Path | None = None

    @classmethod
    def of(cls, url: SecretStr | None, file: Path | None) -> Self | None:
        """Return where Redis is, or None when neither is set.

        Raises:
            RedisUrlError: both are set, or the URL is none of Redis.
        """
        if url is not None and file is not None:
            raise RedisUrlError("redis_url and redis_url_file are both set: keep one of them")
        if url is not None:
            check_url(url.get_secret_value())
        return None if url is None and file is None else cls(url=url, file=file)

    def read(self) -> str:
        """Return the URL, password included.

        Raises:
            OSError: the file cannot be read.
            RedisUrlError: the URL is none of Redis.
        """
        if self.url is not None:
            return self.url.get_secret_value()
        if self.file is None:
            raise RedisUrlError("neither a URL of Redis nor a file with one")
        url = self.file.read_text(encoding="utf-8").strip()
        check_url(url)
        return url


def check_url(url: str) -> None:
    """Check that a URL can be one of Redis.

    Raises:
        RedisUrlError: it cannot.
    """
    scheme = url.split("://", 1)[0] if "://" in url else ""
    try:
        parts = urlsplit(url)
        complete = bool(parts.path if scheme == "unix" else parts.hostname)
        _ = parts.port
    except ValueError:
        complete = False
    if scheme not in _SCHEMES or not complete:
        raise RedisUrlError(
            "the URL of Redis must look like redis://[user:password@]host[:port][/database], "
            "rediss:// with TLS, or unix:///path; percent-encode special characters of the password"
        )
