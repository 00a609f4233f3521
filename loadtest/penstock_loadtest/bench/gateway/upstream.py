"""The mock engine of the gateway benchmark: answers from a table, on an epoll loop that does nothing else.

It must outrun every router in front of it, so it parses no JSON. It finds the row's marker in the body, checks that the
last message arrived unchanged, and sends bytes made beforehand. Streams are paced as an engine paces them: each tick
writes one event to every open stream. The usage event is sent when the body asks for it, as vLLM does.

Run as `python -m penstock_loadtest.bench.gateway.upstream`, with a TrafficPlan as JSON on standard input; prints
its ports as one line of JSON.
"""

from __future__ import annotations

import contextlib
import gc
import select
import socket
import sys
import time

import msgspec

from penstock_loadtest.bench.gateway.traffic import (
    MARKER,
    MARKER_DIGITS,
    Exchange,
    TrafficPlan,
    make_traffic,
    model_name,
)

SERVED_PATH = b"/_bench/served"
"""GET answers what was served since the last time: `Served` as JSON."""

_ASKS_FOR_USAGE = (b'"include_usage":true', b'"include_usage": true')
_METRICS_LABELS = 'engine="0",model_name="bench"'


class UpstreamPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How the mock engine runs."""

    traffic: TrafficPlan
    ports: int = 8
    """It listens on this many, as so many replicas would."""
    tick_s: float = 0.01
    """Time between two events of a stream."""


class Served(msgspec.Struct, kw_only=True):
    """What the upstream did since it was last asked."""

    counts: dict[int, int]
    """Answers by exchange index."""
    damaged: list[str]
    """Requests that did not arrive as they were sent."""


class _Connection:
    __slots__ = ("buffer", "events", "exchange", "out", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.out = bytearray()
        self.exchange: Exchange | None = None
        self.events: list[bytes] = []


class Upstream:
    """The server: one thread, level-triggered epoll."""

    def __init__(self, plan: UpstreamPlan) -> None:
        self._tick_s = plan.tick_s
        self._models = plan.traffic.models
        self._traffic = make_traffic(plan.traffic)
        self._unary = [b"" if e.streamed else _unary_answer(e.body) for e in self._traffic]
        self._served = Served(counts={}, damaged=[])
        self._metrics = _metrics_page()
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._streams: dict[int, _Connection] = {}
        self._listeners: dict[int, socket.socket] = {}
        for _ in range(plan.ports):
            listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
            listener.setblocking(False)
            self._listeners[listener.fileno()] = listener
            self._epoll.register(listener.fileno(), select.EPOLLIN)

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports it listens on."""
        return tuple(listener.getsockname()[1] for listener in self._listeners.values())

    def serve_forever(self) -> None:
        """Serve until the process ends."""
        next_tick_s = time.monotonic()
        while True:
            timeout_s = max(0.0, next_tick_s - time.monotonic()) if self._streams else -1
            for fd, event in self._epoll.poll(timeout_s):
                if fd in self._listeners:
                    self._accept(self._listeners[fd])
                elif event & select.EPOLLOUT:
                    self._flush(self._connections[fd])
                else:
                    self._read(self._connections[fd])
            now_s = time.monotonic()
            if now_s >= next_tick_s:
                self._tick()
                next_tick_s = max(next_tick_s + self._tick_s, now_s)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[sock.fileno()] = _Connection(sock)
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _close(self, connection: _Connection) -> None:
        fd = connection.sock.fileno()
        self._epoll.unregister(fd)
        self._connections.pop(fd, None)
        self._streams.pop(fd, None)
        connection.sock.close()

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        buffer = connection.buffer + data if connection.buffer else data
        while buffer:
            length = self._answer_one(connection, buffer)
            if not length:
                break
            buffer = buffer[length:]
        connection.buffer = buffer

    def _answer_one(self, connection: _Connection, buffer: bytes) -> int:
        """Answer the first request in the buffer; return its length in bytes, 0 when it is not whole yet."""
        head_end = buffer.find(b"\r\n\r\n") + 4
        if head_end < 4:
            return 0
        # Any path: Ray Serve gives each engine a prefix of its own.
        if buffer.startswith(b"POST "):
            length = head_end + _content_length(buffer[:head_end])
            if len(buffer) < length:
                return 0
            self._chat(connection, buffer, head_end)
            return length
        path = buffer[:head_end].split(b" ", 2)[1]
        self._send(connection, _unary_answer(self._side_answer(path)))
        return head_end

    def _chat(self, connection: _Connection, buffer: bytes, head_end: int) -> None:
        start = buffer.find(MARKER, head_end)
        try:
            index = int(buffer[start + len(MARKER) : start + len(MARKER) + MARKER_DIGITS])
            exchange = self._traffic[index]
        except (ValueError, IndexError):
            exchange = None
        if exchange is None or not buffer.startswith(exchange.content, start):
            self._served.damaged.append(buffer[head_end : head_end + 120].decode(errors="replace"))
            self._send(connection, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return
        if not exchange.streamed:
            self._count(exchange)
            self._send(connection, self._unary[index])
            return
        asked = any(text in buffer[head_end:] for text in _ASKS_FOR_USAGE)
        connection.exchange = exchange
        # The end of a stream comes in one tick: the last token, the usage and the mark of the end.
        last = [*exchange.events[-2:-1], *([exchange.usage_event] if asked else []), exchange.events[-1]]
        connection.events = [b"".join(map(_chunk, last)) + b"0\r\n\r\n", *map(_chunk, reversed(exchange.events[:-2]))]
        self._streams[connection.sock.fileno()] = connection
        self._send(
            connection,
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n",
        )

    def _tick(self) -> None:
        for connection in list(self._streams.values()):
            self._send(connection, connection.events.pop())
            if not connection.events and connection.exchange is not None:
                self._count(connection.exchange)
                self._streams.pop(connection.sock.fileno(), None)

    def _count(self, exchange: Exchange) -> None:
        counts = self._served.counts
        counts[exchange.index] = counts.get(exchange.index, 0) + 1

    def _side_answer(self, path: bytes) -> bytes:
        if path == SERVED_PATH:
            served, self._served = self._served, Served(counts={}, damaged=[])
            return msgspec.json.encode(served)
        if path.endswith(b"/metrics"):
            return self._metrics
        if path == b"/v1/models":
            data = [
                {"id": model_name(n), "object": "model", "created": 0, "owned_by": "bench"} for n in range(self._models)
            ]
            return msgspec.json.encode({"object": "list", "data": data})
        return b"{}"

    def _send(self, connection: _Connection, data: bytes) -> None:
        if connection.out:
            connection.out += data
            return
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return
        if sent < len(data):
            connection.out += data[sent:]
            self._epoll.modify(connection.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, connection: _Connection) -> None:
        try:
            sent = connection.sock.send(connection.out)
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        del connection.out[:sent]
        if not connection.out:
            self._epoll.modify(connection.sock.fileno(), select.EPOLLIN)


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.find(b"\r\ncontent-length:")
    if start < 0:
        message = "the mock upstream reads bodies by their content-length; the router sent none"
        raise ValueError(message)
    return int(lowered[start + 17 : lowered.find(b"\r\n", start + 17)])


def _metrics_page() -> bytes:
    """Return a page about as long as vLLM's: routers that watch their engines read one a second from each."""
    gauges = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
    counters = ("num_preemptions", "prompt_tokens", "generation_tokens", "prefix_cache_queries", "prefix_cache_hits")
    lines = [f"vllm:{name}{{{_METRICS_LABELS}}} 0.0" for name in gauges]
    lines += [f"vllm:{name}_total{{{_METRICS_LABELS}}} 0.0" for name in counters]
    lines += [
        f'vllm:histogram_{number}_seconds_bucket{{{_METRICS_LABELS},le="{2.0**bucket}"}} 0.0'
        for number in range(12)
        for bucket in range(20)
    ]
    return "\n".join(lines).encode() + b"\n"


def _unary_answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def _chunk(event: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(event), event)


def main() -> None:
    """Serve by the plan on standard input."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=UpstreamPlan)
    upstream = Upstream(plan)
    gc.freeze()
    sys.stdout.buffer.write(msgspec.json.encode(upstream.ports) + b"\n")
    sys.stdout.flush()
    upstream.serve_forever()


if __name__ == "__main__":
    main()
