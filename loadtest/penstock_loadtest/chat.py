"""One chat request over gevent sockets, read line by line as it arrives."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import gevent
import msgspec
from geventhttpclient.client import HTTPClient
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketResponse

from penstock_loadtest.answers import AnswerReading
from penstock_loadtest.prompts import make_prompt
from penstock_loadtest.records import Outcome, RequestRecord
from penstock_loadtest.settings import LoadSettings

_CONNECTION_TIMEOUT_S = 10.0


class ChatClient:
    """Sends chat completions to one server; connections are kept and shared by up to `concurrency` greenlets."""

    def __init__(self, settings: LoadSettings, *, concurrency: int) -> None:
        self._settings = settings
        base = settings.url.rstrip("/")
        base = base if base.endswith("/v1") else f"{base}/v1"
        self._path = f"{urlsplit(base).path}/chat/completions"
        self._headers = {"Content-Type": "application/json", "User-Agent": "penstock-loadtest"}
        if settings.api_key:
            self._headers["Authorization"] = f"Bearer {settings.api_key}"
        self._system = _system_messages(settings)
        self._http = HTTPClient.from_url(
            base,
            concurrency=concurrency,
            connection_timeout=_CONNECTION_TIMEOUT_S,
            network_timeout=settings.request_timeout_s,
        )

    def ask(self, prompt: str, max_tokens: int, report: Callable[[RequestRecord], None]) -> None:
        """Send one request, read its answer to the end and report it, also when it failed or was cut."""
        start_unix_s = time.time()
        reading = AnswerReading(time.perf_counter())
        try:
            self._exchange(reading, self._body(prompt, max_tokens))
        except TimeoutError:
            reading.fail(Outcome.TIMED_OUT, f"nothing came for {self._settings.request_timeout_s} s")
        except (OSError, HTTPParseError) as error:
            # An answer that broke off is told apart from one that never began: only the first can have cost anything.
            broken = isinstance(error, HTTPConnectionClosed) or not reading.status
            reading.fail(Outcome.CONNECTION_FAILED if broken else Outcome.CONNECTION_LOST, str(error))
        except gevent.GreenletExit:
            reading.fail(Outcome.ABANDONED, "the run ended first")
            raise
        finally:
            report(reading.finish(start_unix_s, time.perf_counter()))

    def close(self) -> None:
        """Close the kept connections."""
        self._http.close()

    def _body(self, prompt: str, max_tokens: int) -> bytes:
        settings = self._settings
        body: dict[str, object] = {
            "model": settings.model,
            "messages": [*self._system, {"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
        }
        if settings.ignore_eos:
            body["ignore_eos"] = True
        if settings.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return msgspec.json.encode(body)

    def _exchange(self, reading: AnswerReading, body: bytes) -> None:
        response: HTTPSocketResponse = self._http.request("POST", self._path, body=body, headers=self._headers)
        try:
            reading.status = response.get_code()
            reading.request_id = str(response.get("x-request-id") or "")
            kind = str(response.get("content-type") or "")
            if reading.status != 200 or not kind.startswith("text/event-stream"):
                reading.feed_body(response.read(), time.perf_counter())
                return
            while line := response.readline(b"\n"):
                reading.feed_line(line, time.perf_counter())
        finally:
            response.release()


def _system_messages(settings: LoadSettings) -> list[dict[str, str]]:
    if not settings.system_tokens:
        return []
    length_bytes = round(settings.system_tokens * settings.bytes_per_token)
    text = make_prompt(length_bytes, random.Random(f"{settings.seed}/system"))  # noqa: S311 - load, not secrets
    return [{"role": "system", "content": text}]
