"""A connection to Redis that gives up in time and leaves trying again to its caller."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from penstock_usage.settings import RedisUrl, RedisUrlError, StreamOptions

STREAM_FAULTS: tuple[type[Exception], ...] = (RedisError, OSError, RedisUrlError)
"""What using the stream may end in: Redis away, silent, full or refusing us, or a URL file that cannot be read."""


def connect(where: RedisUrl, options: StreamOptions, *, client_name: str) -> Redis:
    """Return a client that connects with its first command.

    Args:
        where: Read now, so that a password that was changed holds from the next connection on.
        options: Timeouts and the TLS authority.
        client_name: What `CLIENT LIST` shows.

    Raises:
        OSError: the file with the URL cannot be read.
        RedisUrlError: the URL is none of Redis.
    """
    url = where.read()
    tls: dict[str, Any] = {}
    if url.startswith("rediss://") and options.tls_ca_file is not None:
        tls = {"ssl_ca_certs": str(options.tls_ca_file)}
    return Redis.from_url(
        url,
        socket_connect_timeout=options.connect_s,
        socket_timeout=options.answer_s,
        socket_keepalive=True,
        client_name=client_name,
        # One try: what was lost is found out by looking, and the caller waits between tries.
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        **tls,
    )


def problem_of(error: BaseException) -> str:
    """Return one line that says what is wrong; Redis' own words hold no password."""
    return str(error) or type(error).__name__
