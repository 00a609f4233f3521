"""The load generator of the gateway benchmark: prebuilt requests, and every answer compared byte for byte.

It runs on a bare epoll loop, because it shares a core with the upstream: what it does not spend, the router can use up.
"""

from __future__ import annotations

import random
import select
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from penstock_loadtest.bench.gateway.traffic import Exchange
from penstock_loadtest.errors import WrongAnswerError

_LAST_CHUNK = b"0\r\n\r\n"
_STALLED_S = 20.0
"""A phase in which nothing at all arrives for so long has failed."""


class PhaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one phase of load did."""

    requests: int
    events: int
    """Stream events among the answers."""
    seconds: float
    """From the first request to the last answer."""
    latencies_s: tuple[float, ...] = ()
    """Of open loops only: from the time a request was due, so that a late start counts."""


class _Connection:
    __slots__ = ("due_s", "exchange", "parts", "sock")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.exchange: Exchange | None = None
        self.parts: list[bytes] = []
        self.due_s = 0.0

    def start(self, exchange: Exchange) -> None:
        self.exchange = exchange
        sent = self.sock.send(exchange.request)
        if sent < len(exchange.request):
            # Loopback buffers hold any request of this benchmark; a full one means that the router reads late.
            self.sock.setblocking(True)
            self.sock.sendall(exchange.request[sent:])
            self.sock.setblocking(False)

    def receive(self) -> Exchange | None:
        """Read what came; return the exchange once its answer is whole and right."""
        exchange = self.exchange
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return None
        except OSError as error:
            raise WrongAnswerError(_describe(exchange, b"".join(self.parts), str(error))) from error
        if exchange is None or not data:
            raise WrongAnswerError(_describe(exchange, b"".join(self.parts), "the router closed the connection"))
        parts = self.parts
        parts.append(data)
        # A stream comes in hundreds of pieces: they are put together once, when the last one may have come.
        if exchange.streamed:
            end = data if len(data) >= len(_LAST_CHUNK) else b"".join(parts[-len(_LAST_CHUNK) :])
            if not end.endswith(_LAST_CHUNK):
                return None
        if not _is_whole_and_right(exchange, data if len(parts) == 1 else b"".join(parts)):
            return None
        parts.clear()
        self.exchange = None
        return exchange


def run_closed(
    port: int, exchanges: Sequence[Exchange], *, connections: int, seconds: float, seed: int = 1
) -> PhaseResult:
    """Keep every connection busy for `seconds`, then let what is open finish.

    Raises:
        WrongAnswerError: an answer was not the upstream's, byte for byte.
    """
    source = _endless(exchanges, seed)
    pool = {c.sock.fileno(): c for c in (_Connection(port) for _ in range(connections))}
    epoll = select.epoll()
    requests = events = 0
    try:
        for fd in pool:
            epoll.register(fd, select.EPOLLIN)
        began_s = time.monotonic()
        deadline_s = began_s + seconds
        for connection in pool.values():
            connection.start(next(source))
        busy = connections
        more = True
        while busy:
            ready = epoll.poll(_STALLED_S)
            if not ready:
                raise WrongAnswerError(_describe_stall(pool.values()))
            more = more and time.monotonic() < deadline_s
            for fd, _ in ready:
                done = pool[fd].receive()
                if done is None:
                    continue
                requests += 1
                events += len(done.events)
                if more:
                    pool[fd].start(next(source))
                else:
                    busy -= 1
        return PhaseResult(requests=requests, events=events, seconds=time.monotonic() - began_s)
    finally:
        _close(epoll, pool.values())


def run_open(
    port: int, exchanges: Sequence[Exchange], *, requests_per_s: float, connections: int, seconds: float, seed: int = 1
) -> PhaseResult:
    """Send requests when they are due (Poisson arrivals), whether or not earlier ones were answered.

    A request that finds no idle connection waits for one, and its wait counts as latency.

    Raises:
        WrongAnswerError: an answer was not the upstream's, byte for byte.
    """
    source = _endless(exchanges, seed)
    rng = random.Random(seed)  # noqa: S311 - arrivals, not secrets
    pool = {c.sock.fileno(): c for c in (_Connection(port) for _ in range(connections))}
    idle = list(pool.values())
    waiting: deque[float] = deque()
    latencies_s: list[float] = []
    epoll = select.epoll()
    try:
        for fd in pool:
            epoll.register(fd, select.EPOLLIN)
        began_s = last_s = time.monotonic()
        deadline_s = began_s + seconds
        due_s = began_s + rng.expovariate(requests_per_s)
        while due_s < deadline_s or waiting or len(idle) < connections:
            now_s = time.monotonic()
            while due_s <= now_s and due_s < deadline_s:
                waiting.append(due_s)
                due_s += rng.expovariate(requests_per_s)
            while waiting and idle:
                connection = idle.pop()
                connection.due_s = waiting.popleft()
                connection.start(next(source))
            # select() on the epoll descriptor waits with microseconds; epoll_wait itself only knows milliseconds.
            pause_s = due_s - time.monotonic() if due_s < deadline_s else 1.0
            if pause_s > 0:
                select.select([epoll.fileno()], [], [], min(pause_s, 1.0))
            for fd, _ in epoll.poll(0):
                connection = pool[fd]
                if connection.receive() is not None:
                    last_s = time.monotonic()
                    latencies_s.append(last_s - connection.due_s)
                    idle.append(connection)
            if time.monotonic() - last_s > _STALLED_S:
                raise WrongAnswerError(f"no answer came for {_STALLED_S:.0f} s at {requests_per_s:.0f} requests/s")
        seconds_used = time.monotonic() - began_s
        return PhaseResult(requests=len(latencies_s), events=0, seconds=seconds_used, latencies_s=tuple(latencies_s))
    finally:
        _close(epoll, pool.values())


def _endless(exchanges: Sequence[Exchange], seed: int) -> Iterator[Exchange]:
    order = list(exchanges)
    random.Random(seed).shuffle(order)  # noqa: S311 - traffic, not secrets
    while True:
        yield from order


def _is_whole_and_right(exchange: Exchange, data: bytes) -> bool:
    """Return True for the right answer, False for a beginning of one.

    Raises:
        WrongAnswerError: whatever comes next, this cannot become the right answer.
    """
    head_end = data.find(b"\r\n\r\n") + 4
    if head_end < 4:
        return False
    if not data.startswith(b"HTTP/1.1 200 "):
        raise WrongAnswerError(_describe(exchange, data, "the status is not 200"))
    if data.endswith(exchange.body) and len(data) - head_end == len(exchange.body):
        return True
    head = data[:head_end].lower()
    if b"\r\ntransfer-encoding: chunked\r\n" in head:
        if not data.endswith(b"\r\n" + _LAST_CHUNK):
            return False
        body = _dechunk(data, head_end)
        if body == exchange.body:
            return True
    elif len(data) - head_end < len(exchange.body):
        return False
    raise WrongAnswerError(_describe(exchange, data, "the body is not the upstream's"))


def _dechunk(data: bytes, at: int) -> bytes:
    pieces: list[bytes] = []
    while True:
        line_end = data.find(b"\r\n", at)
        try:
            size = int(data[at:line_end].split(b";")[0], 16)
        except ValueError:
            return b""
        if not size:
            return b"".join(pieces)
        pieces.append(data[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2


def _describe(exchange: Exchange | None, data: bytes, problem: str) -> str:
    number = "none" if exchange is None else str(exchange.index)
    return f"exchange {number}: {problem}; {len(data)} bytes came, beginning {data[:400]!r}"


def _describe_stall(connections: Iterable[_Connection]) -> str:
    still = [connection for connection in connections if connection.exchange is not None]
    data = b"".join(still[0].parts) if still else b""
    first = f"; the first has {len(data)} bytes, ending {data[-200:]!r}" if still else ""
    return f"no byte came for {_STALLED_S:.0f} s with {len(still)} requests open{first}"


def _close(epoll: select.epoll, connections: Iterable[_Connection]) -> None:
    epoll.close()
    for connection in connections:
        connection.sock.close()
