"""A client of long streams, run within the node: opens some at once, counts every token, and says how each ended.

One JSON line an event on standard output: `first` when a stream's first token came, `end` when it is over. Standard
library only, one connection and one thread a stream: what it says about a cut stream shall owe nothing to a library.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SILENCE_S = 120.0
"""A stream that says nothing for so long is over."""
_printing = threading.Lock()


def main() -> None:
    """Open the streams and wait for all of them to end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    options = parser.parse_args()
    key = os.environ["PENSTOCK_API_KEY"]
    wanted = [Stream(number, options.url, key, options.model, options.tokens) for number in range(options.count)]
    threads = [threading.Thread(target=run_stream, args=(stream,)) for stream in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@dataclass(frozen=True)
class Stream:
    """One stream to have."""

    number: int
    url: str
    key: str
    model: str
    tokens: int


def run_stream(stream: Stream) -> None:
    """Have one stream of exactly so many tokens, and say how it ended."""
    began_s = time.monotonic()
    seen: dict[str, Any] = {"tokens": 0, "usage": None, "finish": None, "done": False, "status": None}
    cause = ""
    try:
        for event in events(stream, seen):
            if "error" in event:
                cause = f"error event: {event['error'].get('message', event['error'])}"
                break
            read_event(event, seen)
            if seen["tokens"] and "first_s" not in seen:
                seen["first_s"] = round(time.monotonic() - began_s, 3)
                say({"event": "first", "stream": stream.number, "at_s": time.time(), "after_s": seen["first_s"]})
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = f"{type(error).__name__}: {error}"
    cause = cause or fault(seen, stream.tokens)
    lasted_s = round(time.monotonic() - began_s, 3)
    say({"event": "end", "stream": stream.number, "at_s": time.time(), "lasted_s": lasted_s, "cause": cause, **seen})


def fault(seen: dict[str, Any], tokens: int) -> str:
    """Return what is wrong with a stream that ended without an error; nothing when it is whole."""
    if seen["status"] != 200:
        return f"status {seen['status']}: {seen.get('body', '')}"
    if not seen["done"]:
        return f"it ended after {seen['tokens']} of {tokens} tokens, without [DONE]"
    if seen["tokens"] != tokens or seen["usage"] != tokens:
        return f"{seen['tokens']} tokens came and {seen['usage']} were counted, of {tokens}"
    return ""


def events(stream: Stream, seen: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each event's JSON; status, and whether [DONE] came, go into `seen`."""
    parts = urllib.parse.urlsplit(stream.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=SILENCE_S)
    body = {
        "model": stream.model,
        "messages": [{"role": "user", "content": f"Stream {stream.number}: count."}],
        "max_tokens": stream.tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        # The engine joins tokens that wait in one event: only their ids can be counted.
        "return_token_ids": True,
    }
    headers = {"authorization": f"Bearer {stream.key}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    seen["status"] = answer.status
    if answer.status != 200:
        seen["body"] = answer.read(500).decode(errors="replace")
        return
    for line in answer:
        if not line.startswith(b"data: "):
            continue
        data = line[6:].strip()
        if data == b"[DONE]":
            seen["done"] = True
            continue
        yield json.loads(data)


def read_event(event: dict[str, Any], seen: dict[str, Any]) -> None:
    """Add what one event brought."""
    if event.get("usage"):
        seen["usage"] = event["usage"]["completion_tokens"]
    for choice in event.get("choices", ()):
        seen["tokens"] += len(choice.get("token_ids") or ())
        seen["finish"] = choice.get("finish_reason") or seen["finish"]


def say(event: dict[str, Any]) -> None:
    """Print one event as a line."""
    with _printing:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
