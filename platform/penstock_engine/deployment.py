"""The Serve deployment: one replica is one engine, answering on a port of its own with the engine's own HTTP API.

Ray Serve imports this module to build the application as well, so it must stay light: vLLM is imported by the
replica only. Serve needs `RAY_SERVE_ENABLE_DIRECT_INGRESS=1` in the environment of the Ray head and its workers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import serve

from penstock_engine.errors import EngineError
from penstock_engine.processes import end_process, kill_descendants, release_shared_memory
from penstock_engine.settings import EngineSettings, parse_settings
from penstock_engine.watchdog import Watchdog

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger("ray.serve")


@serve.deployment(logging_config={"enable_access_log": False})  # the gateway keeps the record of requests
@serve.ingress()
class Engine:
    """Hosts one vLLM engine. Serve calls `__serve_build_asgi_app__` after the constructor, and `__del__` after a drain.

    Only built-in exceptions leave this class: Serve's controller unpickles them, and one of vLLM's own would make it
    import vLLM, which freezes it for ten seconds.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._failure: str | None = None
        self._watching: asyncio.Task[None] | None = None
        began_s = time.monotonic()
        _prepare_process()
        from penstock_engine import vllm_server  # noqa: PLC0415 - takes 12 s, and the build task must not pay for it

        imported_s = time.monotonic()
        self._server = vllm_server
        self._handle = vllm_server.ServerHandle()
        try:
            self._args = vllm_server.parse_flags(list(settings.argv))
        except EngineError as error:
            raise ValueError(f"the engine cannot start: {error}") from None
        try:
            self._engine = vllm_server.start(self._args)
        except Exception as error:
            logger.exception("the engine did not start")
            kill_descendants()
            release_shared_memory()
            raise RuntimeError(
                f"the engine cannot start: {error} (its own words: worker-*-{os.getpid()}.out in Ray's logs)"
            ) from None
        now_s = time.monotonic()
        logger.info("engine up: imports took %.1f s, the engine %.1f s", imported_s - began_s, now_s - imported_s)

    async def __serve_build_asgi_app__(self) -> FastAPI:
        try:
            app = await self._server.build_http_app(self._engine, self._args, self._handle)
        except Exception as error:
            logger.exception("the engine started, but its HTTP application did not")
            self._shut_down()
            raise RuntimeError(f"the engine cannot serve: {error}") from None
        self._watching = asyncio.create_task(self._watch())
        return app

    async def _watch(self) -> None:
        watchdog = Watchdog(
            is_dead=lambda: self._engine.errored or self._handle.should_exit,
            ping=self._engine.is_sleeping,
            hang_after_s=self._settings.hang_after_s,
        )
        self._failure = await watchdog.watch()
        logger.error("%s; this replica ends", self._failure)
        await asyncio.sleep(self._settings.exit_grace_s)
        end_process()

    async def check_health(self) -> None:
        """Tell Serve whether the engine works.

        Raises:
            RuntimeError: it does not.
        """
        if self._failure or self._engine.errored:
            raise RuntimeError(self._failure or "the engine is dead")

    async def __del__(self) -> None:
        if (watching := getattr(self, "_watching", None)) is not None:
            watching.cancel()
        self._shut_down()

    def _shut_down(self) -> None:
        if (engine := getattr(self, "_engine", None)) is not None:
            engine.shutdown(timeout=0)
            kill_descendants()
            release_shared_memory()


def _prepare_process() -> None:
    """Set what vLLM reads from the environment, before it is imported."""
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # as `vllm serve` does: Ray's threads forbid fork
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    for name in ("TMPDIR", "VLLM_RPC_BASE_PATH"):
        if folder := os.environ.get(name):
            Path(folder).mkdir(parents=True, exist_ok=True)


def build(args: dict[str, Any]) -> serve.Application:
    """Build the application: `import_path: penstock_engine.deployment:build` in Serve's configuration.

    Args:
        args: Fields of `EngineSettings`.

    Raises:
        ValueError: an argument is wrong; the message names it. Serve shows it as the application's message.
    """
    try:
        settings = parse_settings(args)
    except EngineError as error:
        raise ValueError(str(error)) from None
    return Engine.bind(settings)  # type: ignore[attr-defined] # the decorator replaces the class
