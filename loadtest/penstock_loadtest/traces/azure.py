"""Azure's traces of LLM inference (AzurePublicDataset)."""

from __future__ import annotations

import csv
import gzip
from datetime import datetime
from pathlib import Path

from penstock_loadtest.arrivals import Arrival
from penstock_loadtest.errors import LoadSettingsError

AZURE_2023_CONVERSATION = Path(__file__).with_name("azure2023_conv.csv.gz")
"""One hour of chat requests, 2023-11-16; source and licence in README.md beside it."""


def read_azure_trace(path: Path) -> tuple[Arrival, ...]:
    """Read a trace (`TIMESTAMP,ContextTokens,GeneratedTokens`, gzip or plain) in the order of arrival.

    Returns:
        Arrivals in seconds since the first one; every request has at least one token each way.

    Raises:
        LoadSettingsError: the file is missing or is not such a trace; the message names the line.
    """
    rows: list[tuple[datetime, int, int]] = []
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        for row in csv.DictReader(text.splitlines()):
            # Seven decimals of a second are one more than datetime takes.
            at = datetime.fromisoformat(row["TIMESTAMP"][:26])
            rows.append((at, int(row["ContextTokens"]), int(row["GeneratedTokens"])))
    except OSError as error:
        raise LoadSettingsError(f"trace {path} cannot be read: {error.strerror or error}") from error
    except (KeyError, ValueError, TypeError) as error:
        raise LoadSettingsError(
            f"trace {path}, request {len(rows) + 1}: expected TIMESTAMP,ContextTokens,GeneratedTokens ({error})"
        ) from error
    if not rows:
        raise LoadSettingsError(f"trace {path} holds no requests")
    rows.sort(key=lambda row: row[0])
    began = rows[0][0]
    return tuple(
        Arrival(at_s=(at - began).total_seconds(), prompt_tokens=max(1, prompt), output_tokens=max(1, output))
        for at, prompt, output in rows
    )
