"""Limits per minute, in this process: token buckets that hold one minute's worth."""

from __future__ import annotations

import math
from typing import Final

from penstock.routing.snapshot import CompiledTenant
from penstock_gateway.errors import RateLimitedError

_MINUTE_S: Final = 60.0


class Bucket:
    """Fills evenly up to a minute's worth. May go below zero: tokens are known only after they were made.

    Args:
        per_minute: Rate and size.
        now_s: Monotonic time.
    """

    __slots__ = ("_at_s", "_level", "per_minute")

    def __init__(self, per_minute: int, now_s: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at_s = now_s

    def level(self, now_s: float) -> float:
        """Return what may be taken now; below zero after an overrun."""
        gained = max(0.0, now_s - self._at_s) * self.per_minute / _MINUTE_S
        self._level = min(float(self.per_minute), self._level + gained)
        self._at_s = max(now_s, self._at_s)
        return self._level

    def take(self, amount: int) -> None:
        """Take, whatever is there."""
        self._level -= amount

    @property
    def remaining(self) -> int:
        """What was there when last looked at, less what was taken since; not below zero."""
        return max(0, math.floor(self._level))

    def full_in_s(self) -> int:
        """Return the whole seconds until it is full again, if nothing more is taken."""
        return math.ceil((self.per_minute - self._level) * _MINUTE_S / self.per_minute)

    def wait_s(self, amount: float) -> int:
        """Return the whole seconds until `amount` is there, at least 1."""
        return max(1, math.ceil((amount - self._level) * _MINUTE_S / self.per_minute))


class TenantLimits:
    """A tenant's buckets; kept from snapshot to snapshot while its limits stay the same.

    Args:
        tenant: Whose limits.
        now_s: Monotonic time.
    """

    __slots__ = ("any", "requests", "tokens")

    def __init__(self, tenant: CompiledTenant, now_s: float) -> None:
        self.requests = _bucket(tenant.requests_per_minute, now_s)
        self.tokens = _bucket(tenant.tokens_per_minute, now_s)
        self.any = self.requests is not None or self.tokens is not None
        """There is a limit."""

    def admit(self, now_s: float) -> None:
        """Count a request.

        Raises:
            RateLimitedError: the tenant is over a limit; nothing was counted.
        """
        requests, tokens = self.requests, self.tokens
        if requests is not None and requests.level(now_s) < 1.0:
            raise _over("requests", requests, 1.0)
        if tokens is not None and tokens.level(now_s) <= 0.0:
            raise _over("tokens", tokens, 1.0)
        if requests is not None:
            requests.take(1)

    def settle(self, tokens: int) -> None:
        """Count the tokens that a request turned out to use."""
        if self.tokens is not None:
            self.tokens.take(tokens)

    def fields(self) -> bytes:
        """Return what OpenAI's clients read of limits, as of the last `admit`: header lines, none without a limit."""
        lines = b""
        for kind, bucket in ((b"requests", self.requests), (b"tokens", self.tokens)):
            if bucket is not None:
                lines += (
                    b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %ds\r\n"
                ) % (kind, bucket.per_minute, kind, bucket.remaining, kind, bucket.full_in_s())
        return lines


def _bucket(per_minute: int | None, now_s: float) -> Bucket | None:
    return None if per_minute is None else Bucket(per_minute, now_s)


def _over(kind: str, bucket: Bucket, amount: float) -> RateLimitedError:
    seconds = bucket.wait_s(amount)
    return RateLimitedError(
        f"The limit of {bucket.per_minute} {kind} per minute is used up. Try again in {seconds} s.",
        retry_after_s=seconds,
    )
