"""Counters of engines as tokens per second, over a short window; a replica that comes or goes disturbs nobody else."""

from __future__ import annotations

from collections import deque

from penstock.engines.base import EngineLoad

_WINDOW_S = 5.0


class TokenRates:
    """Remembers a few seconds of each replica's counters."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int, int]]] = {}

    def take(self, replica: str, load: EngineLoad, at_s: float) -> None:
        """Take one reading."""
        seen = self._seen.setdefault(replica, deque())
        seen.append((at_s, load.prompt_tokens, load.generation_tokens))
        while len(seen) > 2 and at_s - seen[1][0] >= _WINDOW_S:
            seen.popleft()

    def forget(self, replica: str) -> None:
        """Forget a replica that is gone."""
        self._seen.pop(replica, None)

    def per_second(self, replicas: list[str]) -> tuple[float, float]:
        """Return prompt and completion tokens per second of some replicas together."""
        prompt = completion = 0.0
        for replica in replicas:
            seen = self._seen.get(replica)
            if not seen or len(seen) < 2 or seen[-1][0] <= seen[0][0]:
                continue
            span_s = seen[-1][0] - seen[0][0]
            prompt += max(0, seen[-1][1] - seen[0][1]) / span_s
            completion += max(0, seen[-1][2] - seen[0][2]) / span_s
        return prompt, completion
