"""A decision in words, several lines of them."""

from __future__ import annotations

from penstock.scaling.decision import Decision


def explain(decision: Decision) -> str:
    """Return the decision as a few lines of plain text."""
    return decision.reason
