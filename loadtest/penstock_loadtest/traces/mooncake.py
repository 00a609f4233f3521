"""Mooncake's traces: requests with the ids of their prompts' blocks, so that what they share can be seen."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Final

import msgspec

from penstock_loadtest.errors import LoadSettingsError

MOONCAKE_CONVERSATION = Path(__file__).with_name("mooncake_conversation.jsonl.gz")
"""One hour of a chat service; source and licence in README.md beside it."""

BLOCK_TOKENS: Final = 512
STEP_S: Final = 3.0
"""Times are given in steps of about this: whoever replays them spreads each step's requests over it."""


class PromptedArrival(msgspec.Struct, frozen=True, kw_only=True):
    """One request of the trace."""

    at_ms: int = msgspec.field(name="timestamp")
    prompt_tokens: int = msgspec.field(name="input_length")
    output_tokens: int = msgspec.field(name="output_length")
    blocks: tuple[int, ...] = msgspec.field(name="hash_ids")
    """One id for each 512 tokens, the last of which may be fewer."""


def read_mooncake_trace(path: Path = MOONCAKE_CONVERSATION) -> list[PromptedArrival]:
    """Read a trace, in the order in which it is given.

    Raises:
        LoadSettingsError: the file is missing or is not such a trace.
    """
    try:
        rows = msgspec.json.Decoder(PromptedArrival).decode_lines(gzip.decompress(path.read_bytes()))
    except OSError as error:
        raise LoadSettingsError(f"trace {path} cannot be read: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise LoadSettingsError(f"trace {path} is no Mooncake trace: {error}") from error
    if not rows:
        raise LoadSettingsError(f"trace {path} holds no requests")
    return rows
