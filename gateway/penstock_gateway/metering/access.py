"""The access log: one JSON line per inference request, never with prompts, answers or keys."""

from __future__ import annotations

import logging

import msgspec

logger = logging.getLogger("penstock_gateway.access")


class AccessEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One request."""

    id: str
    client_request_id: str | None
    at_s: float
    """Unix seconds."""
    tenant: str
    model: str
    """As the client named it."""
    replica: str | None
    status: int
    outcome: str
    prompt_tokens: int
    completion_tokens: int
    ttft_ms: float | None
    duration_ms: float


def log_entry(entry: AccessEntry) -> None:
    """Write one line through logging."""
    logger.info(msgspec.json.encode(entry).decode())
