"""What became of each request: one record a request, one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import msgspec


class Outcome(StrEnum):
    """How a request ended, as the client saw it."""

    COMPLETE = "Complete"
    ERROR_ANSWER = "ErrorAnswer"
    """An error status with a body in the OpenAI shape."""
    ERROR_EVENT = "ErrorEvent"
    """A stream that began well and then said, in the OpenAI shape, that it failed."""
    MALFORMED_ERROR = "MalformedError"
    """An error status, or an error event, in some other shape."""
    MALFORMED_ANSWER = "MalformedAnswer"
    """A success that is not what OpenAI's API describes."""
    TRUNCATED = "Truncated"
    """A stream that ended without [DONE] and without an error."""
    NO_TOKENS = "NoTokens"
    """A success that holds nothing."""
    CONNECTION_FAILED = "ConnectionFailed"
    """No connection, or closed before any answer."""
    CONNECTION_LOST = "ConnectionLost"
    """Broken in the middle of an answer."""
    TIMED_OUT = "TimedOut"
    ABANDONED = "Abandoned"
    """We left first, at the end of the run. Neither a success nor a failure."""

    @property
    def failed(self) -> bool:
        """True when the service is to blame."""
        return self not in {Outcome.COMPLETE, Outcome.ABANDONED}

    @property
    def clean(self) -> bool:
        """True for failures that the service put in the shape that clients understand."""
        return self in {Outcome.ERROR_ANSWER, Outcome.ERROR_EVENT}


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One finished request."""

    start_s: float
    """Unix seconds."""
    duration_s: float
    outcome: Outcome
    ttft_s: float | None = None
    """To the first token; None when none came, and for answers in one piece."""
    tpot_s: float | None = None
    """Mean time per token after the first; None with fewer than two tokens."""
    prompt_tokens: int = 0
    """As the service reports them; 0 when it does not."""
    completion_tokens: int = 0
    """As the service reports them; else the number of events that held text."""
    status: int = 0
    """HTTP status; 0 when there was no answer."""
    error_code: str = ""
    """`error.code`, or `error.type` when that is missing."""
    message: str = ""
    """What went wrong, at most 200 characters."""
    request_id: str = ""
    """The answer's `x-request-id`."""


def read_records(path: Path) -> Iterator[RequestRecord]:
    """Read a file of records; a line that is still being written is left out."""
    decoder = msgspec.json.Decoder(RequestRecord)
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield decoder.decode(line)
