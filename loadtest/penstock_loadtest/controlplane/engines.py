"""Engines to point simulated replicas at: vLLM's metrics page and enough of its OpenAI API to route to."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

_METRICS = (
    ("vllm:num_requests_running", "running"),
    ("vllm:num_requests_waiting", "waiting"),
    ("vllm:kv_cache_usage_perc", "kv_usage"),
    ("vllm:num_preemptions_total", "preemptions"),
    ("vllm:prompt_tokens_total", "prompt_tokens"),
    ("vllm:generation_tokens_total", "generation_tokens"),
    ("vllm:prefix_cache_queries_total", "prefix_queries"),
    ("vllm:prefix_cache_hits_total", "prefix_hits"),
)
_CONFIG = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="4096",engine="0"} 1.0'
_PROMPT_TOKENS = 7


@dataclass
class Load:
    """What an application's replicas tell of themselves."""

    kv_usage: float = 0.0
    """0 to 1."""
    running: int = 0
    waiting: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0

    def page(self) -> bytes:
        """Return the metrics page."""
        lines = [f'{name}{{engine="0",model_name="m"}} {float(getattr(self, field))}' for name, field in _METRICS]
        return "\n".join([*lines, _CONFIG, ""]).encode()


@dataclass
class Engines:
    """Listens for replicas, each on a port of its own, or all on one.

    Addresses are not of the loopback interface, which the API server takes in no EndpointSlice.
    """

    host: str
    shared: bool = False
    """One port for all replicas: a thousand of them would be a thousand sockets."""
    loads: dict[str, Load] = field(default_factory=dict)
    """By application; one that is not here is idle."""
    token_gap_s: float = 0.0
    """Between two tokens of a stream."""
    _runner: web.AppRunner | None = None
    _sites: dict[str, web.SockSite] = field(default_factory=dict)
    _shared_port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Get ready to listen; the one shared port listens now."""
        app = web.Application()
        app.router.add_get("/{application}/metrics", self._metrics)
        app.router.add_get("/{application}/health", _health)
        app.router.add_post("/{application}/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        if self.shared:
            self._shared_port = self._open("")

    async def stop(self) -> None:
        """Close every port and every connection."""
        if self._runner is not None:
            await self._runner.cleanup()

    def listen(self, application: str, replica_id: str) -> tuple[str, int]:
        """Return where a replica listens from now on."""
        del application  # replicas differ by their port only
        return self.host, self._shared_port or self._open(replica_id)

    def leave(self, replica_id: str) -> None:
        """Stop listening for a replica; its connections break."""
        site = self._sites.pop(replica_id, None)
        if site is not None:
            self._later(site.stop())

    def _open(self, replica_id: str) -> int:
        assert self._runner is not None  # noqa: S101 - `start` comes first
        sock = socket.create_server((self.host, 0), backlog=1024)
        site = web.SockSite(self._runner, sock)
        self._sites[replica_id] = site
        self._later(site.start())
        port: int = sock.getsockname()[1]
        return port

    def _later(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _metrics(self, request: web.Request) -> web.Response:
        load = self.loads.get(request.match_info["application"], Load())
        return web.Response(body=load.page(), content_type="text/plain")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        count = int(asked.get("max_tokens") or 2)
        usage = {
            "prompt_tokens": _PROMPT_TOKENS,
            "completion_tokens": count,
            "total_tokens": _PROMPT_TOKENS + count,
        }
        common = {"id": "chatcmpl-1", "created": 1, "model": asked.get("model")}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": " ".join(["word"] * count)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
            return web.Response(body=msgspec.json.encode(body), content_type="application/json")
        answer = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await answer.prepare(request)
        chunk = {**common, "object": "chat.completion.chunk"}
        for place in range(count):
            finish = "stop" if place == count - 1 else None
            choice = {"index": 0, "delta": {"content": f"word{place} "}, "finish_reason": finish}
            await answer.write(_event({**chunk, "choices": [choice]}))
            await asyncio.sleep(self.token_gap_s)
        if (asked.get("stream_options") or {}).get("include_usage"):
            await answer.write(_event({**chunk, "choices": [], "usage": usage}))
        await answer.write(b"data: [DONE]\n\n")
        return answer


async def _health(_request: web.Request) -> web.Response:
    return web.Response()


def _event(payload: object) -> bytes:
    return b"data: " + msgspec.json.encode(payload) + b"\n\n"


def own_address() -> str:
    """Return an IPv4 address of this machine that is not loopback.

    Raises:
        OSError: it has none, or no route at all.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))  # names a route; a datagram socket sends nothing by connecting
        address: str = sock.getsockname()[0]
        return address
