"""What the operator writes for others to read: the timeline of changes, `status.json`, replica events, decisions."""

from __future__ import annotations

from pathlib import Path

import msgspec

from penstock.control.status import PlatformStatus, TimelineEvent
from penstock.local.state import write_atomically


class Timeline:
    """Appends to `events.jsonl`. One writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.recent: list[TimelineEvent] = []
        """The last few, for the live table."""

    def write(self, t_s: float, kind: str, model: str | None, text: str) -> None:
        """Write one change."""
        event = TimelineEvent(t_s=t_s, kind=kind, model=model, text=text)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(event) + b"\n")
        self.recent = [*self.recent[-9:], event]


def write_status(path: Path, status: PlatformStatus) -> None:
    """Replace `status.json`."""
    write_atomically(path, msgspec.json.encode(status))


def read_status(path: Path) -> PlatformStatus | None:
    """Return the status last written, or None when there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=PlatformStatus)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
