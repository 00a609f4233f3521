"""What one run of the cluster test leaves: a timeline on the screen, and a report in build/e2e/report.json."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Record:
    """The report, as it grows; it is on disk after every line."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._began_s = time.monotonic()
        self.report: dict[str, Any] = {
            "failure": None,
            "first_token_s": None,
            "replicas": [],
            "streams": {"opened": 0, "completed": 0, "cut": {}, "by_step": {}},
            "requests": {"total": 0, "completed": 0, "failed": {}},
            "kubectl_get_models": {},
            "node": {},
            "timeline": [],
        }

    def now_s(self) -> float:
        """Return the seconds since the run began."""
        return round(time.monotonic() - self._began_s, 1)

    def say(self, text: str) -> None:
        """Put one line on the timeline."""
        at_s = self.now_s()
        self.report["timeline"].append({"at_s": at_s, "text": text})
        sys.stderr.write(f"{at_s:7.1f} s  {text}\n")
        sys.stderr.flush()
        self.save()

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Put a step on the timeline, and how long it took."""
        self.say(text)
        began_s = self.now_s()
        yield
        self.say(f"  that took {self.now_s() - began_s:.1f} s")

    def note(self, **values: Any) -> None:
        """Put values into the report."""
        self.report.update(values)
        self.save()

    def replicas(self, ready: int) -> None:
        """Note how many replicas serve, where it is another number than before."""
        if self.report["replicas"][-1:] != [ready]:
            self.report["replicas"].append(ready)
            self.save()

    def streams(self, cause: str, ended: Sequence[dict[str, Any]], **more: Any) -> None:
        """Count streams that were alive while `cause` happened; each that was cut is put down to it."""
        streams = self.report["streams"]
        cut = [f"stream {stream['stream']}: {stream['cause']}" for stream in ended if stream["cause"]]
        streams["opened"] += len(ended)
        streams["completed"] += len(ended) - len(cut)
        streams["cut"][cause] = len(cut)
        streams["by_step"][cause] = {
            "opened": len(ended),
            "tokens": sum(stream["tokens"] for stream in ended),
            "lasted_s": [stream["lasted_s"] for stream in ended],
            "cut": cut,
            **more,
        }
        self.say(f"  streams at {cause}: {len(ended)} opened, {len(cut)} cut {cut or ''}")

    def requests(self, counts: dict[str, Any]) -> None:
        """Add the requests that a load counted."""
        requests = self.report["requests"]
        requests["total"] += counts["total"]
        requests["completed"] += counts["complete"]
        for cause, count in counts["by_cause"].items():
            requests["failed"][cause] = requests["failed"].get(cause, 0) + count
        self.say(f"  load: {counts}")

    def save(self) -> None:
        """Write the report as it is now."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self.report, indent=2) + "\n")
