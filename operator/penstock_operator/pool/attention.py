"""Which Models are to be thought about now: of a thousand most are idle most of the time. Pure but for its memory."""

from __future__ import annotations

from typing import Final

from penstock.api.model import Model

QUIET_S: Final = 5.0
"""How often a Model is thought about of which nothing was asked and nothing changed."""


class Attention:
    """Remembers when each model was last thought about, and upon what."""

    def __init__(self) -> None:
        self._thought: dict[str, tuple[float, Model, int, int]] = {}

    def is_due(self, model: Model, *, busy: bool, ready: int, target: int, now_s: float) -> bool:
        """Say whether a model is to be thought about; it then counts as done.

        Args:
            model: As it is written now.
            busy: Whether a gateway has requests for it.
            ready: Replicas that take requests.
            target: Replicas that it is to have.
            now_s: The time.
        """
        last = self._thought.get(model.name)
        is_known = last is not None and last[1] is model and last[2:] == (ready, target)
        if last is not None and is_known and not busy and ready == target and now_s - last[0] < QUIET_S:
            return False
        self._thought[model.name] = (now_s, model, ready, target)
        return True

    def forget(self, name: str) -> None:
        """Forget a model that is gone."""
        self._thought.pop(name, None)
