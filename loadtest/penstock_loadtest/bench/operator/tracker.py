"""When each Model converged, by one watch."""

from __future__ import annotations

import asyncio
import time

from penstock_kube.resources import Key, Object
from penstock_kube.store import Change
from penstock_loadtest.bench.operator.plan import is_converged


class Tracker:
    """Notes the moment at which each expected Model is seen converged."""

    def __init__(self) -> None:
        self._waiting: dict[Key, int] = {}
        self._seen: dict[Key, Object] = {}
        self.converged_s: dict[Key, float] = {}
        """`time.monotonic()` of each."""
        self._changed = asyncio.Event()

    def notice(self, change: Change) -> None:
        """Look at a change; a reflector's handler."""
        if change.new is not None:
            self._seen[change.key] = change.new
            self._judge(change.key, change.new)

    def expect(self, key: Key, generation: int) -> None:
        """Wait for a Model to converge at a generation, or a later one."""
        self._waiting[key] = generation
        self.converged_s.pop(key, None)
        if key in self._seen:
            self._judge(key, self._seen[key])

    async def wait(self, within_s: float) -> bool:
        """Wait until every expected Model has converged; False when time ran out first."""
        deadline_s = time.monotonic() + within_s
        while self._waiting:
            self._changed.clear()
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            try:
                await asyncio.wait_for(self._changed.wait(), left_s)
            except TimeoutError:
                return False
        return True

    def missing(self) -> list[str]:
        """Return what those that have not converged say of themselves, a line each."""
        return [f"{key}: {_words(self._seen.get(key))}" for key in self._waiting]

    def _judge(self, key: Key, model: Object) -> None:
        generation = self._waiting.get(key)
        if generation is not None and model["metadata"]["generation"] >= generation and is_converged(model):
            del self._waiting[key]
            self.converged_s[key] = time.monotonic()
            if not self._waiting:
                self._changed.set()


def _words(model: Object | None) -> str:
    if model is None:
        return "not seen"
    conditions = (model.get("status") or {}).get("conditions") or ()
    return "; ".join(f"{one['type']}={one['status']} {one['reason']}" for one in conditions) or "no status"
