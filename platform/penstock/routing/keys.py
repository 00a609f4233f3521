"""Tenant keys: kept as keyed hashes, so that neither a snapshot nor a dump of it gives a key away."""

from __future__ import annotations

import hashlib
import hmac


def hash_key(pepper: bytes, key: str) -> str:
    """Return the hex HMAC-SHA256 of an API key under the platform's pepper."""
    return hmac.new(pepper, key.encode(), hashlib.sha256).hexdigest()


class KeyHasher:
    """Hashes many keys under one pepper: the same as `hash_key`, with the pepper's part done once.

    Args:
        pepper: The platform's secret.
    """

    __slots__ = ("_peppered",)

    def __init__(self, pepper: bytes) -> None:
        self._peppered = hmac.new(pepper, digestmod=hashlib.sha256)

    def hash(self, key: bytes) -> str:
        """Return the hex HMAC-SHA256 of a key, given in UTF-8."""
        peppered = self._peppered.copy()
        peppered.update(key)
        return peppered.hexdigest()
