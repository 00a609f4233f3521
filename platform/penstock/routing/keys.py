"""Tenant keys: kept as keyed hashes, so that neither a snapshot nor a dump of it gives a key away."""

from __future__ import annotations

import hashlib
import hmac


def hash_key(pepper: bytes, key: str) -> str:
    """Return the hex HMAC-SHA256 of an API key under the platform's pepper."""
    return hmac.new(pepper, key.encode(), hashlib.sha256).hexdigest()
