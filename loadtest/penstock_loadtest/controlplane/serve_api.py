"""Ray Serve's REST API for many Ray clusters at once: a cluster's key stands before Ray's own paths: `/KEY/api/...`.

The key is what the dashboard's URL makes of it: the namespace, or `{namespace}.{service}` to tell two clusters of one
namespace apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import msgspec
from aiohttp import web

from penstock_loadtest.controlplane.engines import Engines, own_address
from penstock_loadtest.controlplane.simulated_serve import Behaviour, RefusedError, SimulatedServe

T = TypeVar("T")

_APPLICATIONS = "/{key}/api/serve/applications/"
_SCALE = "/{key}/api/v1/applications/{application}/deployments/{deployment}/scale"


class ServeApi:
    """The server. A cluster's Serve is there from the first time that somebody asks for it.

    Everything happens in the server's event loop; from another thread, use `run`.
    """

    def __init__(self, *, shared_engines: bool = False) -> None:
        self.behaviour = Behaviour()
        """Of all clusters, but for those that `behave` gave one of their own."""
        self.engines = Engines(own_address(), shared=shared_engines)
        self.port = 0
        self.calls: dict[str, int] = {}
        """Calls so far by method."""
        self._clusters: dict[str, SimulatedServe] = {}
        self._behaviours: dict[str, Behaviour] = {}
        self._tokens: dict[str, str] = {}
        self._unreachable: set[str] = set()
        self._hung: dict[str, asyncio.Event] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """What to give an operator as the dashboards' URL: a format string, with the namespace as the key."""
        return f"http://127.0.0.1:{self.port}/{{namespace}}"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self.engines.start()
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_get(_APPLICATIONS, self._get)
        app.router.add_put(_APPLICATIONS, self._put)
        app.router.add_delete(_APPLICATIONS, self._delete)
        app.router.add_post(_SCALE, self._scale)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for event in self._hung.values():
            event.set()
        if self._runner is not None:
            await self._runner.cleanup()
        await self.engines.stop()

    def serve(self, key: str) -> SimulatedServe:
        """Return a cluster's Serve."""
        if key not in self._clusters:
            behaviour = self._behaviours.get(key, self.behaviour)
            self._clusters[key] = SimulatedServe(behaviour, self.engines.listen, self.engines.leave, self.engines.host)
        return self._clusters[key]

    def behave(self, key: str, behaviour: Behaviour) -> None:
        """Give a cluster a behaviour of its own."""
        self._behaviours[key] = behaviour
        self.serve(key).behaviour = behaviour

    def require_token(self, key: str, token: str) -> None:
        """Answer 401 from now on to who does not show this token, as Ray does."""
        self._tokens[key] = token

    def hang(self, key: str) -> None:
        """Take calls and answer none, until `mend`."""
        self._hung.setdefault(key, asyncio.Event())

    def cut_off(self, key: str) -> None:
        """Break every connection, until `mend`."""
        self._unreachable.add(key)

    def mend(self, key: str) -> None:
        """Answer again."""
        self._unreachable.discard(key)
        event = self._hung.pop(key, None)
        if event is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(event.set)

    def run(self, work: Callable[[], T]) -> T:
        """Do something in the server's loop, from whatever thread, and return what it returned."""
        if self._loop is None:
            raise RuntimeError("the server does not run: enter it first")

        if _running_loop() is self._loop:
            return work()

        async def wrapped() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(wrapped(), self._loop).result(30)

    async def _reach(self, request: web.Request) -> SimulatedServe:
        key = request.match_info["key"]
        self.calls[request.method] = self.calls.get(request.method, 0) + 1
        if key in self._hung:
            await self._hung[key].wait()
        if key in self._unreachable:
            if request.transport is not None:
                request.transport.abort()
            raise web.HTTPServiceUnavailable
        token = self._tokens.get(key)
        if token is not None and request.headers.get("authorization") != f"Bearer {token}":
            raise web.HTTPUnauthorized(text="Unauthorized: Missing or invalid authentication token")
        return self.serve(key)

    async def _get(self, request: web.Request) -> web.Response:
        serve = await self._reach(request)
        return _json(serve.details(time.time()))

    async def _put(self, request: web.Request) -> web.Response:
        serve = await self._reach(request)
        try:
            serve.put(msgspec.json.decode(await request.read()), time.time())
        except RefusedError as error:
            return web.Response(status=error.status, text=error.text)
        return web.Response()

    async def _delete(self, request: web.Request) -> web.Response:
        (await self._reach(request)).shut_down(time.time())
        return web.Response()

    async def _scale(self, request: web.Request) -> web.Response:
        serve = await self._reach(request)
        names = request.match_info["application"], request.match_info["deployment"]
        try:
            serve.scale(*names, msgspec.json.decode(await request.read()), time.time())
        except RefusedError as error:
            return _json({"error": error.text}, error.status)
        return _json({"message": "Scaling request received. Deployment will get scaled asynchronously."})


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")


@contextlib.contextmanager
def loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread of its own, for those who have none; end it on the way out."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stand-ins", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def serve_api(*, shared_engines: bool = False) -> Iterator[ServeApi]:
    """Run a server in a thread; end it on the way out."""
    with loop_in_thread() as loop:
        server = ServeApi(shared_engines=shared_engines)
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(30)
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(30)
