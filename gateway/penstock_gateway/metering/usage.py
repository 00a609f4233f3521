"""What an engine says a request used."""

from __future__ import annotations

import msgspec


class PromptDetails(msgspec.Struct, frozen=True):
    """How much of the prompt came from the engine's prefix cache."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True):
    """An engine's own count of a request's tokens."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt found in the prefix cache; 0 when the engine does not say."""
        details = self.prompt_tokens_details
        return 0 if details is None else details.cached_tokens or 0
