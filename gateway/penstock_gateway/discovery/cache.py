"""What was known of the cluster, on disk, for a gateway that starts while the API server is away."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec

from penstock.local.state import write_atomically
from penstock_gateway.discovery.compile import Content

logger = logging.getLogger(__name__)


class ContentCache:
    """A file that holds a `Content`. Several processes may share it: each replaces it whole.

    Args:
        path: The file; its folder is made when it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failing = False

    def read(self) -> Content | None:
        """Return what is there; None when there is nothing, or nothing that can be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Content)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning("the routing cache %s cannot be used and is left alone: %s", self._path, error)
            return None

    async def write(self, content: Content) -> None:
        """Replace the file. A disk that does not take it is logged once and costs only the cache."""
        data = msgspec.json.encode(content)
        try:
            await asyncio.to_thread(self._write, data)
        except OSError as error:
            if not self._failing:
                logger.warning("the routing cache cannot be written: %s", error)
            self._failing = True
        else:
            self._failing = False

    def _write(self, data: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, data, mode=0o600)
