"""A raw HTTP/1.1 client for tests: sends any bytes, reads answers piece by piece, hides nothing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 10.0


@dataclass
class Answer:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error, checked to have OpenAI's shape."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert isinstance(error["message"], str)
        assert error["message"]
        assert isinstance(error["type"], str)
        assert error["param"] is None or isinstance(error["param"], str)
        assert error["code"] is None or isinstance(error["code"], str)
        assert self.headers["x-request-id"]
        return dict(error)

    @property
    def events(self) -> list[str]:
        """The data of a stream's events."""
        return [part.removeprefix("data: ") for part in self.body.decode().split("\n\n") if part]


def post(path: str, body: bytes, *headers: str, key: str | None = "sk-test") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: gateway", f"Content-Length: {len(body)}", *headers]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str, *headers: str, key: str | None = "sk-test", method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", *headers]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, data: bytes) -> Answer:
        await self.send(data)
        return await self.answer(head_only=data.startswith(b"HEAD "))

    async def head(self) -> tuple[int, dict[str, str]]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(status_line.split(" ")[1]), headers

    async def chunk(self) -> bytes:
        """Read one chunk of chunked coding; the last one is empty."""
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def answer(self, *, head_only: bool = False) -> Answer:
        """Read one answer whole; a gateway that hangs fails the test here, where its traceback helps."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._answer(head_only=head_only)

    async def _answer(self, *, head_only: bool) -> Answer:
        status, headers = await self.head()
        if head_only:
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            parts = []
            while part := await self.chunk():
                parts.append(part)
            return Answer(status, headers, b"".join(parts))
        if "content-length" in headers:
            return Answer(status, headers, await self.reader.readexactly(int(headers["content-length"])))
        return Answer(status, headers, await self.reader.read())

    async def at_end(self) -> bool:
        """Return whether the server closed the connection without sending more."""
        return await self.reader.read(1) == b""

    async def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()
