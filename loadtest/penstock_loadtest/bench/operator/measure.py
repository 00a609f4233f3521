"""One round of the operator benchmark: all Models from nothing, a quiet minute, then edits."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from penstock.api.crd import CRD_KINDS, render
from penstock_kube.client import KubeClient
from penstock_kube.config import Access
from penstock_kube.errors import NotFoundError
from penstock_kube.reflector import Reflector
from penstock_kube.resources import MODELS, Key, Kind
from penstock_loadtest.bench.operator.audit import LEASES, AuditLog, Call, deeds
from penstock_loadtest.bench.operator.plan import OperatorPlan, edited, keys, manifest, namespace_name
from penstock_loadtest.bench.operator.subject import NAMESPACE, USER, Operator, compile_bytecode
from penstock_loadtest.bench.operator.tracker import Tracker
from penstock_loadtest.bench.records import Sample
from penstock_loadtest.controlplane.kuberay import KubeRay, install_definition
from penstock_loadtest.controlplane.plane import Find, control_plane
from penstock_loadtest.controlplane.serve_api import ServeApi
from penstock_loadtest.errors import SubjectFailedError

T = TypeVar("T")

SUBJECT = "penstock"
_NAMESPACES = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
_DEFINITIONS = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False)
_AT_ONCE = 16
_QUIET_S = 5.0
_QUIET_WITHIN_S = 60.0
_MIB = 1024**2


class Round(msgspec.Struct, kw_only=True):
    """What one round found."""

    samples: list[Sample]
    by_call: Counter[Call]
    """The operator's calls until all was ready, as the API server counted them."""
    unaccounted: int
    """Calls that the API server counted and the operator did not, or the other way round."""


async def measure_round(plan: OperatorPlan, find: Find, say: Callable[[str], None]) -> Round:
    """Bring up a control plane, the stand-ins and an operator, and measure.

    Raises:
        BenchError: a program is missing, the operator ended, or Models did not converge in time.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-operator-")))
        audit = AuditLog(folder, USER)
        plane = stack.enter_context(control_plane(find, users=(USER,), apiserver_flags=audit.flags()))
        plane.grant(USER, {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})
        access = Access(str(plane.kubeconfig()))
        client = await stack.enter_async_context(KubeClient(access, field_manager="bench"))
        wanted = keys(plan)
        say(f"operator: creating {len(wanted)} Models in {plan.namespaces} namespaces")
        await _prepare(client, plan)
        await _gather(partial(client.create, MODELS, manifest(key)) for key in wanted)
        serve = await stack.enter_async_context(ServeApi(shared_engines=True))
        await stack.enter_async_context(KubeRay(access, serve))
        tracker = await _track(client, stack)
        for key in wanted:
            tracker.expect(key, 1)
        await asyncio.to_thread(compile_bytecode, plan.bytecode)
        started_s = time.monotonic()
        operator = Operator(plane.kubeconfig(USER), serve.url, folder, plan.bytecode)
        return await _watched(_Stage(plan, client, tracker, audit, operator, started_s), wanted, say)


@dataclass(frozen=True)
class _Stage:
    plan: OperatorPlan
    client: KubeClient
    tracker: Tracker
    audit: AuditLog
    operator: Operator

    started_s: float
    """`time.monotonic()` at the operator's start."""


async def _watched(stage: _Stage, wanted: list[Key], say: Callable[[str], None]) -> Round:
    """Run the phases for as long as the operator lives, and note its largest memory."""
    process = stage.operator.process
    phases = asyncio.create_task(_phases(stage, wanted, say))
    peak_bytes = 0
    try:
        while not phases.done():
            process.check_alive()
            peak_bytes = max(peak_bytes, process.rss_bytes())
            await asyncio.wait({phases}, timeout=1.0)
        found = phases.result()
        found.samples.append(_sample("peak_rss_mb", "MiB", peak_bytes / _MIB))
        return found
    finally:
        phases.cancel()
        await asyncio.wait({phases})
        process.stop()


async def _phases(stage: _Stage, wanted: list[Key], say: Callable[[str], None]) -> Round:
    plan, operator, tracker, audit = stage.plan, stage.operator, stage.tracker, stage.audit
    say("operator: started; waiting until all Models are ready")
    await _all_converged(stage, f"are not ready after {plan.give_up_s:.0f} s")
    took = sorted(at_s - stage.started_s for at_s in tracker.converged_s.values())
    busy_cpu_s = operator.process.cpu_s()
    await _until_quiet(audit)
    ready_calls = deeds(audit.counts())
    own = await operator.api_calls()
    samples = [
        _sample("reconciled_s", "s", took[-1]),
        _sample("first_ready_s", "s", took[0]),
        _sample("median_ready_s", "s", statistics.median(took)),
        _sample("calls_per_model", "calls", ready_calls.total() / len(wanted)),
        _sample("reconcile_cpu_s", "s", busy_cpu_s),
    ]
    say(f"operator: all ready after {took[-1]:.1f} s; watching it idle for {plan.idle_s:.0f} s")
    samples += await _idle(stage)
    say(f"operator: editing {plan.edits} Models")
    samples += await _edits(stage, wanted[: plan.edits])
    return Round(
        samples=samples, by_call=ready_calls, unaccounted=abs(own.total() - ready_calls.total()) if own else -1
    )


async def _all_converged(stage: _Stage, what: str) -> None:
    """Wait for all expected Models; tell of the first few that are missing, and what the operator last logged."""
    if not await stage.tracker.wait(stage.plan.give_up_s):
        missing = stage.tracker.missing()
        first = " | ".join(missing[:3])
        raise SubjectFailedError(
            f"{len(missing)} Models {what}; first: {first}; log: {stage.operator.process.log_end()}"
        )


async def _idle(stage: _Stage) -> list[Sample]:
    operator, audit = stage.operator, stage.audit
    before, cpu_before_s, from_s = audit.counts(), operator.process.cpu_s(), time.monotonic()
    await asyncio.sleep(stage.plan.idle_s)
    counts = audit.counts()
    counts.subtract(before)
    cpu_s, took_s = operator.process.cpu_s() - cpu_before_s, time.monotonic() - from_s
    leases = sum(count for call, count in counts.items() if call.resource == LEASES)
    a_minute = 60.0 / took_s
    return [
        _sample("idle_calls_per_min", "calls", deeds(counts).total() * a_minute),
        _sample("idle_lease_calls_per_min", "calls", leases * a_minute),
        _sample("idle_core_share", "cores", cpu_s / took_s),
        _sample("rss_mb", "MiB", operator.process.rss_bytes() / _MIB),
    ]


async def _edits(stage: _Stage, wanted: list[Key]) -> list[Sample]:
    plan, tracker = stage.plan, stage.tracker
    sent_s: dict[Key, float] = {}
    kinds: dict[Key, str] = {}

    async def edit(index: int, key: Key) -> None:
        await asyncio.sleep(index / plan.edits_per_s)
        kinds[key], patch = edited(index)
        sent_s[key] = time.monotonic()
        model = await stage.client.merge_patch(MODELS, key.namespace, key.name, patch)
        tracker.expect(key, model["metadata"]["generation"])

    await asyncio.gather(*(edit(index, key) for index, key in enumerate(wanted)))
    await _all_converged(stage, f"did not follow an edit within {plan.give_up_s:.0f} s")
    samples = []
    for kind in sorted(set(kinds.values())):
        took = sorted(tracker.converged_s[key] - sent_s[key] for key in sent_s if kinds[key] == kind)
        samples += [
            _sample(f"edit_{kind}_p50_s", "s", statistics.median(took)),
            _sample(f"edit_{kind}_p99_s", "s", took[min(len(took) - 1, int(len(took) * 0.99))]),
        ]
    return samples


async def _prepare(client: KubeClient, plan: OperatorPlan) -> None:
    """Install the definitions and the namespaces, and wait until Models can be listed."""
    for kind in CRD_KINDS:
        await client.create(_DEFINITIONS, yaml.safe_load(render(kind)))
    await install_definition(client)
    names = [NAMESPACE, *(namespace_name(index) for index in range(plan.namespaces))]
    await _gather(partial(client.create, _NAMESPACES, {"metadata": {"name": name}}) for name in names)
    while True:
        with suppress(NotFoundError):
            await client.list(MODELS)
            return
        await asyncio.sleep(0.2)


async def _track(client: KubeClient, stack: AsyncExitStack) -> Tracker:
    tracker = Tracker()
    reflector = Reflector(client, MODELS)
    reflector.add_handler(tracker.notice)
    task = asyncio.create_task(reflector.run())

    async def end() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)
    await reflector.wait_synced()
    return tracker


async def _until_quiet(audit: AuditLog) -> None:
    """Wait until the operator has written nothing for a while, or long enough."""
    deadline_s = time.monotonic() + _QUIET_WITHIN_S
    last, since_s = deeds(audit.counts()), time.monotonic()
    while time.monotonic() < deadline_s and time.monotonic() - since_s < _QUIET_S:
        await asyncio.sleep(0.5)
        now = deeds(audit.counts())
        if now != last:
            last, since_s = now, time.monotonic()


async def _gather(makers: Iterable[Callable[[], Awaitable[T]]]) -> None:
    """Run all, a few at a time."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(make: Callable[[], Awaitable[T]]) -> None:
        async with gate:
            await make()

    async with asyncio.TaskGroup() as group:
        for make in makers:
            group.create_task(one(make))


def _sample(metric: str, unit: str, value: float) -> Sample:
    return Sample(subject=SUBJECT, metric=metric, unit=unit, value=value)
