"""Liveness, readiness and metrics over HTTP.

Alive means that the event loop answers and that no part has said otherwise: an API server that is away is no reason to
be restarted. Ready means that what this copy mirrors is complete; a standby is ready too, or a rollout would never end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

Check = Callable[[], str | None]
"""Returns None when all is well, else one line that says what is not."""

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """Named checks of one process."""

    def __init__(self) -> None:
        self._live: dict[str, Check] = {}
        self._ready: dict[str, Check] = {}

    def add_liveness(self, name: str, check: Check) -> None:
        """Have the process restarted when `check` fails."""
        self._live[name] = check

    def add_readiness(self, name: str, check: Check) -> None:
        """Call the process not ready while `check` fails."""
        self._ready[name] = check

    def liveness(self) -> list[str]:
        """Return what is wrong, one line each; empty when alive."""
        return _failures(self._live)

    def readiness(self) -> list[str]:
        """Return what is missing, one line each; empty when ready."""
        return _failures(self._live) + _failures(self._ready)


@asynccontextmanager
async def serve_health(
    health: Health,
    registry: CollectorRegistry,
    *,
    host: str = "0.0.0.0",  # noqa: S104 - the kubelet probes from outside the pod
    port: int = 8080,
    routes: Iterable[web.AbstractRouteDef] = (),
) -> AsyncIterator[int]:
    """Serve `/livez`, `/readyz`, `/metrics` and what else is given, and yield the port.

    Args:
        health: what to ask.
        registry: metrics.
        host: address to listen on.
        port: 0 for any free one.
        routes: further answers on the same port.
    """

    def probe(ask: Callable[[], list[str]]) -> Callable[[web.Request], web.Response]:
        def answer(_: web.Request) -> web.Response:
            wrong = ask()
            return web.Response(text="\n".join(wrong) or "ok", status=503 if wrong else 200)

        return answer

    async def livez(request: web.Request) -> web.Response:
        return probe(health.liveness)(request)

    async def readyz(request: web.Request) -> web.Response:
        return probe(health.readiness)(request)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"content-type": _METRICS_TYPE})

    application = web.Application()
    application.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _failures(checks: dict[str, Check]) -> list[str]:
    return [f"{name}: {wrong}" for name, check in checks.items() if (wrong := check()) is not None]
