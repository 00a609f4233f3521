"""The manifest files of a running platform: read at start, watched, and read again when they change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from watchfiles import awatch

from penstock.api.errors import ManifestError
from penstock.api.load import load_files
from penstock.api.manifest import Manifest


class ManifestWatch:
    """Holds the last good manifest. A file that is broken by an edit changes nothing until it is mended."""

    def __init__(self, paths: Sequence[Path], manifest: Manifest) -> None:
        self._paths = tuple(paths)
        self.manifest = manifest
        self.problem: str | None = None
        """What is wrong with the files as they are now; None when the manifest is what they say."""

    async def run(self, stop: asyncio.Event, changed: Callable[[], None]) -> None:
        """Follow the files until `stop`; call `changed` after each reading."""
        # The folders are watched, not the files: editors replace a file, and a watch on the old one would see no more.
        folders = {path if path.is_dir() else path.parent for path in (p.resolve() for p in self._paths)}
        async for _ in awatch(*folders, stop_event=stop, recursive=False, debounce=200, step=50):
            if self.read():
                changed()

    def read(self) -> bool:
        """Read the files; return whether anything is different now."""
        before = (self.manifest, self.problem)
        try:
            manifest = load_files(self._paths)
        except ManifestError as error:
            self.problem = str(error)
        else:
            if manifest.models:
                self.manifest, self.problem = manifest, None
            else:
                # More likely a file that is being written than a wish to have every model drained.
                self.problem = "there is no Model in the files any more; end the platform with `penstock down`"
        return (self.manifest, self.problem) != before
