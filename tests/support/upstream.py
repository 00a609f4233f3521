"""A scripted engine at protocol level: answers like vLLM's OpenAI server, and breaks exactly where a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

PROMPT_TOKENS = 7
CACHED_TOKENS = 3


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the connection closed before the handler was through."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Out:
    """What a handler answers with."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, status: int, body: Any, content_type: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} Scripted\r\ncontent-type: {content_type}\r\ncontent-length: {len(data)}\r\n\r\n"
        await self.raw(head.encode() + data)

    async def open_stream(self) -> None:
        await self.raw(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )

    async def chunk(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def event(self, payload: Any) -> None:
        await self.chunk(b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n")

    async def done(self) -> None:
        await self.chunk(b"data: [DONE]\n\n")
        await self.raw(b"0\r\n\r\n")

    def cut(self) -> None:
        """Break the connection with a reset."""
        self._writer.transport.abort()


Handler = Callable[[Seen, Out], Awaitable[None]]


def usage(completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion,
        "total_tokens": PROMPT_TOKENS + completion,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
    }


def chat_chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def usage_chunk(completion: int) -> dict[str, Any]:
    return {**chat_chunk({}), "choices": [], "usage": usage(completion)}


def chat_answer(text: str, completion: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage(completion),
    }


async def default_handler(seen: Seen, out: Out) -> None:
    """Answer as a healthy engine: as many words as `max_tokens` asks for, two by default."""
    if seen.path.endswith("/health"):
        await out.answer(200, b"")
    elif seen.path.endswith("/metrics"):
        await out.answer(404, b"")
    elif seen.path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        body = {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 7, "total_tokens": 7}}
        await out.answer(200, body)
    elif seen.json.get("stream"):
        await stream_chat(seen, out)
    else:
        count = seen.json.get("max_tokens", 2)
        await out.answer(200, chat_answer(" ".join(["word"] * count), count))


async def stream_chat(seen: Seen, out: Out) -> None:
    count = seen.json.get("max_tokens", 2)
    await out.open_stream()
    await out.event(chat_chunk({"role": "assistant", "content": ""}))
    for place in range(count):
        await out.event(chat_chunk({"content": f"word{place} "}, "stop" if place == count - 1 else None))
    if (seen.json.get("stream_options") or {}).get("include_usage"):
        await out.event(usage_chunk(count))
    await out.done()


class Upstream:
    """One scripted engine on a port of its own. `handler` may be replaced at any time."""

    def __init__(self, handler: Handler = default_handler) -> None:
        self.handler = handler
        self.requests: list[Seen] = []
        """Inference requests, in order of arrival; probes and polls are in `probes`."""
        self.probes: list[Seen] = []
        self.arrived = asyncio.Condition()
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> Self:
        self._server = await asyncio.start_server(self._serve, host, port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Refuse connections and cut those that are open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait_for_requests(self, count: int) -> list[Seen]:
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.rstrip("\r\n").split("\r\n")
        method, path, _ = request_line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        seen = Seen(method, path, headers, body)
        async with self.arrived:
            (self.requests if method == "POST" else self.probes).append(seen)
            self.arrived.notify_all()
        answering = asyncio.ensure_future(self.handler(seen, Out(writer)))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                seen.gone.set()
                return False
            answering.result()
            if leaving.done():
                return False
        finally:
            for waiting in (answering, leaving):
                if not waiting.done():
                    waiting.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
        return not writer.transport.is_closing()
