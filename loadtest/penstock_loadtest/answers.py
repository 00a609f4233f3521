"""Reading answers of an OpenAI-compatible server: what came, when, and whether it was right. No I/O here."""

from __future__ import annotations

import msgspec

from penstock_loadtest.records import Outcome, RequestRecord

_MESSAGE_LENGTH = 200


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[msgspec.Raw] | None = None

    @property
    def has_text(self) -> bool:
        return bool(self.content or self.reasoning_content or self.reasoning or self.tool_calls)


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(msgspec.Struct):
    """A whole answer, or one event of a stream: both have these fields."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Error(msgspec.Struct):
    """OpenAI's error object: all four keys are required."""

    message: str
    type: str
    param: str | None
    code: str | None


class _ErrorBody(msgspec.Struct):
    error: _Error


_answers = msgspec.json.Decoder(_Answer)
_error_bodies = msgspec.json.Decoder(_ErrorBody)


class AnswerReading:
    """One answer as it arrives.

    Times are seconds on any clock that only runs forward.
    """

    def __init__(self, start_s: float) -> None:
        self.start_s = start_s
        self.status = 0
        self.request_id = ""
        self._first_s: float | None = None
        self._last_s = start_s
        self._text_events = 0
        self._usage = _Usage()
        self._done = False
        self._failure: tuple[Outcome, str, str] | None = None

    @property
    def done(self) -> bool:
        """True once the stream has said [DONE]: what follows is not read."""
        return self._done

    def feed_line(self, line: bytes, now_s: float) -> None:
        """Take one line of an event stream."""
        if not line.startswith(b"data:") or self._failure is not None:
            return
        data = line[5:].strip()
        if data == b"[DONE]":
            self._done = True
            return
        self._take(data, now_s)

    def feed_body(self, body: bytes, now_s: float) -> None:
        """Take an answer in one piece, or the body of an error."""
        if self.status != 200:
            self._fail_with(body, Outcome.ERROR_ANSWER)
            return
        self._take(body, now_s)
        self._done = True
        self._first_s = None

    def fail(self, outcome: Outcome, message: str) -> None:
        """Note what kept the answer from coming; the first failure counts."""
        if self._failure is None:
            self._failure = (outcome, "", message[:_MESSAGE_LENGTH])

    def finish(self, start_unix_s: float, now_s: float) -> RequestRecord:
        """Judge the answer and return its record."""
        tokens = self._usage.completion_tokens or self._text_events
        if self._failure is None and not self._done:
            self.fail(Outcome.TRUNCATED, "the stream ended without [DONE]")
        if self._failure is None and not tokens:
            self.fail(Outcome.NO_TOKENS, "the answer holds no tokens")
        outcome, code, message = self._failure or (Outcome.COMPLETE, "", "")
        first_s = self._first_s
        return RequestRecord(
            start_s=start_unix_s,
            duration_s=now_s - self.start_s,
            outcome=outcome,
            ttft_s=None if first_s is None else first_s - self.start_s,
            tpot_s=None if first_s is None or tokens < 2 else (self._last_s - first_s) / (tokens - 1),
            prompt_tokens=self._usage.prompt_tokens,
            completion_tokens=tokens,
            status=self.status,
            error_code=code,
            message=message,
            request_id=self.request_id,
        )

    def _take(self, data: bytes, now_s: float) -> None:
        try:
            answer = _answers.decode(data)
        except msgspec.DecodeError as error:
            self.fail(Outcome.MALFORMED_ANSWER, f"{error}: {data[:100]!r}")
            return
        if bytes(answer.error) != b"null":
            self._fail_with(data, Outcome.ERROR_EVENT)
            return
        if answer.usage is not None:
            self._usage = answer.usage
        for choice in answer.choices:
            part = choice.delta or choice.message
            if part is not None and part.has_text:
                self._text_events += 1
                self._last_s = now_s
                if self._first_s is None:
                    self._first_s = now_s

    def _fail_with(self, body: bytes, clean: Outcome) -> None:
        try:
            error = _error_bodies.decode(body).error
        except msgspec.DecodeError:
            text = body[:_MESSAGE_LENGTH].decode(errors="replace")
            self._failure = self._failure or (Outcome.MALFORMED_ERROR, "", text)
        else:
            self._failure = self._failure or (clean, error.code or error.type, error.message[:_MESSAGE_LENGTH])
