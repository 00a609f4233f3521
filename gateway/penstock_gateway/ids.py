"""Request ids: random, so that neither counts nor other tenants' ids can be guessed from one."""

from __future__ import annotations

import os
from typing import Final

_ID_BYTES: Final = 16
_BLOCK_BYTES: Final = 4096


class RequestIds:
    """Hands out 128-bit ids as 32 hex digits, reading the kernel's randomness a block at a time."""

    __slots__ = ("_at", "_block")

    def __init__(self) -> None:
        self._block = ""
        self._at = 0

    def next(self) -> str:
        """Return a new id."""
        at = self._at
        if at >= len(self._block):
            self._block = os.urandom(_BLOCK_BYTES).hex()
            at = 0
        self._at = end = at + 2 * _ID_BYTES
        return self._block[at:end]
