"""Watches a platform's `status.json` while the demo acts on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from penstock.control.status import ModelStatus, PlatformStatus

_POLL_S = 0.25


class DemoError(RuntimeError):
    """A step of the demo did not come about; the message says which and what was seen last."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of the model at one moment."""

    t_s: float
    """Seconds since the demo began."""
    target: int
    ready: int
    starting: int
    draining: int
    kv_usage: float
    """The highest of the ready replicas, 0 to 1."""
    waiting: int
    completion_tokens_per_s: float
    usd_per_million_tokens: float | None
    why: str


@dataclass
class Watch:
    """A thread that follows `status.json` and keeps a sample of every new one."""

    status_file: Path
    model: str
    began_s: float
    samples: list[Sample] = field(default_factory=list)
    latest: ModelStatus | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to follow the file."""
        self._thread = threading.Thread(target=self._run, name="demo-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def now_s(self) -> float:
        """Return seconds since the demo began."""
        return time.time() - self.began_s

    def wait_for(self, what: str, holds: Callable[[ModelStatus], bool], timeout_s: float) -> ModelStatus:
        """Return the first status for which `holds` is true.

        Raises:
            DemoError: it did not come within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            latest = self.latest
            if latest is not None and holds(latest):
                return latest
            self._stop.wait(_POLL_S)
        raise DemoError(f"waited {timeout_s:.0f} s for {what}; last seen: {_words(self.latest)}")

    def _run(self) -> None:
        last_at_s = 0.0
        while not self._stop.wait(_POLL_S):
            try:
                status = msgspec.json.decode(self.status_file.read_bytes(), type=PlatformStatus)
            except FileNotFoundError:
                continue
            model = next((item for item in status.models if item.name == self.model), None)
            if model is None or status.at_s <= last_at_s:
                continue
            last_at_s = status.at_s
            self.latest = model
            self.samples.append(_sample(model, status.at_s - self.began_s))


def _sample(model: ModelStatus, t_s: float) -> Sample:
    return Sample(
        t_s=round(t_s, 2),
        target=model.target,
        ready=model.ready,
        starting=model.starting,
        draining=model.draining,
        kv_usage=model.kv_usage or 0.0,
        waiting=model.queue,
        completion_tokens_per_s=round(model.completion_tokens_per_s, 1),
        usd_per_million_tokens=model.usd_per_million_tokens,
        why=model.why,
    )


def _words(model: ModelStatus | None) -> str:
    if model is None:
        return "nothing: the platform wrote no status"
    conditions = "; ".join(f"{item.type}={item.status} {item.reason}: {item.message}" for item in model.conditions)
    return f"target {model.target}, ready {model.ready}, starting {model.starting}; {conditions or 'no condition'}"
