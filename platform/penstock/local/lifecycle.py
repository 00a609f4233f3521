"""A platform from nothing to nothing: claim the state directory, start Ray and the gateway, run the loop, end it all.

Whatever happens in between, what was started is ended: by this process if it can, else by the kernel (children get
SIGTERM when their parent dies) and by the next `up` or `down`, which find everything written in `platform.json`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2
import msgspec

from penstock.api.manifest import Manifest
from penstock.control.status import PlatformStatus
from penstock.cost.spool import SpoolWriter
from penstock.local import procfs
from penstock.local.accounts import Accounts
from penstock.local.cleanup import SegmentRegister, remove_tree
from penstock.local.fit import Machine
from penstock.local.gateway import GatewayAddress, GatewayProcess
from penstock.local.journal import Timeline, write_status
from penstock.local.loop import Operator
from penstock.local.manifests import ManifestWatch
from penstock.local.metrics import serve_metrics
from penstock.local.ports import LOOPBACK
from penstock.local.prepare import Preparer
from penstock.local.processes import ManagedProcess
from penstock.local.ray_head import RayHead, RayPorts
from penstock.local.recover import recover
from penstock.local.state import Child, PlatformRecord, StateDirectory, write_atomically
from penstock.routing.snapshot import RoutingSnapshot, encode_snapshot
from penstock.serve.applications import ServeOptions
from penstock.serve.client import ServeClient
from penstock.serve.errors import ServeError

logger = logging.getLogger(__name__)

_SEGMENT_PERIOD_S = 3.0
_SUPERVISE_PERIOD_S = 1.0
_REPLICAS_GONE_S = 20.0
_PROCESSES_GONE_S = 5.0
"""From Serve's word that a replica has ended to the end of its process."""
_LONGEST_TEMP_ROOT = 24
"""Ray's socket paths may have 107 bytes; a longer root than this leaves no room for its session folder."""

Say = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to run a platform."""

    paths: tuple[str, ...]
    """Manifest files and folders."""
    gateway: GatewayAddress
    metrics_port: int
    ray: RayPorts
    cpus: int | None = None
    drain_s: float = 30.0
    """How long `down` lets streams finish."""


@dataclass(slots=True)
class Running:
    """A platform that runs."""

    operator: Operator
    record: PlatformRecord
    failed: asyncio.Future[str]
    """Done when the platform cannot go on, with the reason."""


@contextlib.asynccontextmanager
async def platform(state: StateDirectory, options: Options, manifest: Manifest, say: Say) -> AsyncIterator[Running]:
    """Bring a platform up; take it down at the end of the block, however that comes.

    Raises:
        UserError: one runs here already, or a part of it does not start; nothing is left of it then.
    """
    state.prepare()
    lock = state.acquire()
    try:
        async with contextlib.AsyncExitStack() as stack:
            if recovered := await recover(state):
                say(recovered)
            yield await _start(state, options, manifest, say, stack)
            say("taking down: streams finish, replicas drain")
    finally:
        os.close(lock)


async def _start(
    state: StateDirectory, options: Options, manifest: Manifest, say: Say, stack: contextlib.AsyncExitStack
) -> Running:
    """Start everything; what is started is ended by the stack, the last first."""
    accounts = Accounts(state)
    accounts.check()
    temp_dir = _make_temp_dir()
    stack.callback(remove_tree, temp_dir)
    machine = Machine.here(options.cpus)
    recorder = _Recorder(state, _record(options, temp_dir))
    stack.callback(recorder.remove)
    register = SegmentRegister(state.root / "segments.json")
    stack.callback(register.remove_orphans)
    base = _base_status(options, recorder.record)
    write_status(state.status, base)
    write_atomically(state.snapshot, encode_snapshot(RoutingSnapshot()))
    timeline = Timeline(state.events)
    timeline.write(base.started_s, "Platform", None, "starting")

    say("starting Ray and the gateway")
    ray = RayHead(state, options.ray, temp_dir, machine, recorder.add)
    stack.push_async_callback(ray.end)
    gateway = GatewayProcess(state, options.gateway, options.drain_s, recorder.add)
    gateway.start()
    stack.push_async_callback(gateway.end)
    http = await stack.enter_async_context(httpx2.AsyncClient(timeout=2.0, trust_env=False))
    client = ServeClient(f"http://{LOOPBACK}:{options.ray.dashboard}", state.ray_token.read_text())
    await stack.enter_async_context(client)
    stack.push_async_callback(accounts.close)
    spool = stack.enter_context(SpoolWriter(state.spool, "operator"))
    preparer = Preparer(state, machine, temp_dir)
    stack.push_async_callback(preparer.close)
    watch = ManifestWatch([Path(path) for path in options.paths], manifest)
    operator = Operator(
        state=state,
        client=client,
        http=http,
        gateway=options.gateway,
        watch=watch,
        preparer=preparer,
        accounts=accounts,
        serve_options=ServeOptions(http_host=LOOPBACK, http_port=options.ray.proxy),
        base=base,
        timeline=timeline,
        spool=spool,
    )
    stack.push_async_callback(_end_serving, operator, client, gateway)
    say(f"logs are in {state.logs}")
    await ray.start(client)
    await gateway.wait_ready(http)
    timeline.write(time.time(), "Platform", None, "Ray and the gateway answer")
    failed = _begin(operator, _Parts(ray, gateway, register), stack)
    stack.callback(serve_metrics(options.metrics_port, lambda: operator.status, accounts))
    return Running(operator, recorder.record, failed)


@dataclass(slots=True, frozen=True)
class _Parts:
    """What the platform's tasks look after besides the operator."""

    ray: RayHead
    gateway: GatewayProcess
    register: SegmentRegister


def _begin(operator: Operator, parts: _Parts, stack: contextlib.AsyncExitStack) -> asyncio.Future[str]:
    """Start the platform's tasks, which the stack ends; return what is done when the platform cannot go on."""
    stop = asyncio.Event()
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    tasks = [
        asyncio.create_task(operator.run(stop), name="operator"),
        asyncio.create_task(operator.accounts.run(stop), name="accounts"),
        asyncio.create_task(operator.watch.run(stop, lambda: None), name="manifests"),
        asyncio.create_task(_note_segments(parts.register, parts.ray, stop), name="segments"),
        asyncio.create_task(_supervise(parts.ray, parts.gateway, operator.timeline, failed, stop), name="supervisor"),
    ]
    for task in tasks:
        task.add_done_callback(_log_failure)
    stack.push_async_callback(_end_tasks, tasks, stop)
    return failed


async def _end_tasks(tasks: list[asyncio.Task[None]], stop: asyncio.Event) -> None:
    stop.set()
    await asyncio.gather(*tasks, return_exceptions=True)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the task %s failed; the others go on", task.get_name(), exc_info=error)


async def _end_serving(operator: Operator, client: ServeClient, gateway: GatewayProcess) -> None:
    """Let the gateway's streams finish, have Serve end its replicas, and write how each ended."""
    await gateway.end()
    try:
        await operator.leave(_REPLICAS_GONE_S)
        if operator.fleet.lives:
            logger.warning(
                "replicas still live %.0f s after Serve was told to stop; Ray's end ends them", _REPLICAS_GONE_S
            )
        await client.delete_all()
    except ServeError as error:
        logger.warning("Ray Serve could not be told to stop: %s", error)
    if not operator.fleet.lives:
        await operator.meter.wait_ended(_PROCESSES_GONE_S)
    operator.end_lives("Down")
    operator.meter.close()
    operator.timeline.write(time.time(), "Platform", None, "replicas have ended; ending Ray")


async def _supervise(
    ray: RayHead,
    gateway: GatewayProcess,
    timeline: Timeline,
    failed: asyncio.Future[str],
    stop: asyncio.Event,
) -> None:
    """Start the gateway again when it dies; give up when Ray does, since every replica dies with it."""
    while not stop.is_set():
        if ray.exit_code() is not None and not failed.done():
            failed.set_result(ray.ended())
            return
        if (code := gateway.exit_code()) is not None:
            timeline.write(time.time(), "Platform", None, f"the gateway ended with code {code}; starting it again")
            gateway.start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _SUPERVISE_PERIOD_S)


async def _note_segments(register: SegmentRegister, ray: RayHead, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await asyncio.to_thread(register.note, ray.pids())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _SEGMENT_PERIOD_S)


class _Recorder:
    """Keeps `platform.json` true while processes are started."""

    def __init__(self, state: StateDirectory, record: PlatformRecord) -> None:
        self._state = state
        self.record = record
        state.write_platform(record)

    def add(self, process: ManagedProcess) -> None:
        self.record = msgspec.structs.replace(self.record, children=(*self.record.children, process.child))
        self._state.write_platform(self.record)

    def remove(self) -> None:
        for file in (self._state.status, self._state.snapshot, self._state.platform):
            file.unlink(missing_ok=True)


def _make_temp_dir() -> Path:
    root = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="penstock-", dir=root if len(root) <= _LONGEST_TEMP_ROOT else "/tmp"))  # noqa: S108
    (folder / "tmp").mkdir()
    return folder


def _record(options: Options, temp_dir: Path) -> PlatformRecord:
    me = procfs.identify(os.getpid())
    return PlatformRecord(
        pid=os.getpid(),
        started_s=time.time(),
        data_host=options.gateway.data_host,
        data_port=options.gateway.data_port,
        admin_host=options.gateway.admin_host,
        admin_port=options.gateway.admin_port,
        metrics_port=options.metrics_port,
        dashboard_port=options.ray.dashboard,
        gcs_port=options.ray.gcs,
        temp_dir=str(temp_dir),
        paths=options.paths,
        drain_s=options.drain_s,
        children=() if me is None else (Child("operator", me),),
    )


def _base_status(options: Options, record: PlatformRecord) -> PlatformStatus:
    return PlatformStatus(
        at_s=record.started_s,
        started_s=record.started_s,
        pid=record.pid,
        data_url=options.gateway.data_url,
        admin_url=options.gateway.admin_url,
        metrics_url=f"http://{LOOPBACK}:{options.metrics_port}",
        dashboard_url=f"http://{LOOPBACK}:{options.ray.dashboard}",
        phase="Starting",
        message="starting Ray and the gateway",
    )
