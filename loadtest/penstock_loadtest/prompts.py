"""Prompts made to a length: meaningless, varied, printable."""

from __future__ import annotations

import random

_WORDS = (
    *(
        "water",
        "gate",
        "pressure",
        "river",
        "valve",
        "sluice",
        "engine",
        "token",
        "memory",
        "ledger",
        "price",
        "morning",
    ),
    *("question", "answer", "reason", "measure", "garden", "window", "paper", "number", "letter", "station", "bridge"),
)


def make_prompt(length_bytes: int, rng: random.Random) -> str:
    """Return ASCII text of exactly this many bytes (at least one), different for every state of `rng`."""
    wanted = max(1, length_bytes)
    words: list[str] = []
    size = 0
    while size <= wanted:
        word = rng.choice(_WORDS)
        words.append(word)
        size += len(word) + 1
    # A blank at the end might be stripped on the way, and would then not be counted.
    text = " ".join(words)[:wanted]
    return text if not text.endswith(" ") else text[:-1] + "."
