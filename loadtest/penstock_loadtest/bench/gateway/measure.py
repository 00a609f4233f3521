"""One subject, one round: start, load in three ways, check the meter, stop; and the rounds that make up a benchmark."""

from __future__ import annotations

import gc
import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from penstock_loadtest.bench.gateway.client import PhaseResult, run_closed, run_open
from penstock_loadtest.bench.gateway.metering import check_meter, expected_totals, metered_totals
from penstock_loadtest.bench.gateway.subjects import Site, Started, Subject
from penstock_loadtest.bench.gateway.traffic import TrafficPlan, make_traffic
from penstock_loadtest.bench.gateway.upstream import SERVED_PATH, Served, UpstreamPlan
from penstock_loadtest.bench.machine import Cores, pinned_to
from penstock_loadtest.bench.processes import Process
from penstock_loadtest.bench.records import Sample
from penstock_loadtest.errors import SubjectFailedError, WrongAnswerError
from penstock_loadtest.quantiles import quantile

_MIB = 1024 * 1024


class GatewayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what the gateway benchmark does."""

    rounds: int = 5
    seconds: float = 3.0
    """Of each phase."""
    warm_up_s: float = 0.5
    settle_s: float = 0.5
    """Pause after the start, before idle memory is read."""
    unary_connections: int = 32
    streams: int = 256
    tick_s: float = 0.01
    """Time between two events of one stream: 256 streams make 25,600 events/s."""
    traffic: TrafficPlan = msgspec.field(default_factory=TrafficPlan)


class Bench:
    """The upstream, the traffic and the cores, shared by all subjects and rounds."""

    def __init__(self, plan: GatewayPlan, cores: Cores, upstream_ports: tuple[int, ...]) -> None:
        self.plan = plan
        self.cores = cores
        self.ports = upstream_ports
        exchanges = make_traffic(plan.traffic)
        self.exchanges = exchanges
        self.unary = exchanges[: plan.traffic.unary]
        self.streams = exchanges[plan.traffic.unary :]

    def take_served(self) -> dict[int, int]:
        """Return the upstream's answers by exchange since the last call.

        Raises:
            WrongAnswerError: a request reached the upstream damaged.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=30)
        try:
            connection.request("GET", SERVED_PATH.decode())
            served = msgspec.json.decode(connection.getresponse().read(), type=Served)
        finally:
            connection.close()
        if served.damaged:
            raise WrongAnswerError(
                f"{len(served.damaged)} requests reached the upstream damaged: {served.damaged[0]!r}"
            )
        return served.counts


@contextmanager
def running_bench(plan: GatewayPlan, cores: Cores) -> Iterator[Bench]:
    """Start the mock upstream on the load core and give what all measurements share."""
    with pinned_to(cores.load):
        upstream = subprocess.Popen(
            [sys.executable, "-m", "penstock_loadtest.bench.gateway.upstream"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            ports = _give_plan(upstream, UpstreamPlan(traffic=plan.traffic, tick_s=plan.tick_s))
            bench = Bench(plan, cores, ports)
            with _quiet_collector():
                yield bench
        finally:
            upstream.kill()
            upstream.wait()
            for pipe in (upstream.stdin, upstream.stdout):
                if pipe is not None:
                    pipe.close()


def measure_subject(bench: Bench, subject: Subject, round_number: int) -> list[Sample]:
    """Measure one subject once.

    Raises:
        WrongAnswerError: an answer or the meter was wrong.
        SubjectFailedError: it did not start, or died.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-bench-", ignore_cleanup_errors=True) as folder:
        site = Site(
            folder=Path(folder), core=bench.cores.subject, upstream_ports=bench.ports, traffic=bench.plan.traffic
        )
        bench.take_served()
        started = subject.start(site)
        try:
            measured = _measure_started(bench, subject.name, started, seed=round_number + 1)
        except WrongAnswerError as error:
            log = "" if started.process is None else f"; its log ends: {started.process.log_end()}"
            raise WrongAnswerError(f"{subject.name}: {error}{log}") from error
        finally:
            if started.process is not None:
                started.process.stop()
        if started.spool is not None:
            _check_spool(bench, started.spool, measured.seen, subject.name)
        return measured.rows


class _Measured(msgspec.Struct, kw_only=True):
    rows: list[Sample]
    seen: dict[int, int]


def _measure_started(bench: Bench, name: str, started: Started, *, seed: int) -> _Measured:
    plan, rows = bench.plan, list[Sample]()
    seen: dict[int, int] = {}

    def add(metric: str, unit: str, value: float) -> None:
        rows.append(Sample(subject=name, metric=metric, unit=unit, value=value))

    process = started.process
    _wait_until_serving(bench, started)
    if process is not None:
        time.sleep(plan.settle_s)
        add("rss_mb", "MiB", process.rss_bytes() / _MIB)
    run_closed(started.port, bench.unary, connections=plan.unary_connections, seconds=plan.warm_up_s, seed=seed + 1000)
    unary, cpu_s = _with_cpu(
        process,
        lambda: run_closed(
            started.port, bench.unary, connections=plan.unary_connections, seconds=plan.seconds, seed=seed
        ),
    )
    rate = unary.requests / unary.seconds
    add("unary_rps", "requests/s", rate)
    if process is not None:
        add("unary_core_share", "of one core", cpu_s / unary.seconds)
        add("unary_per_cpu_s", "requests/CPU-s", unary.requests / cpu_s if cpu_s else 0.0)
        _merge(seen, bench.take_served())
        added_s = _p99_s(bench, started.port, rate / 2, seed)
        _merge(seen, bench.take_served())
        added_s -= _p99_s(bench, bench.ports[0], rate / 2, seed)
        bench.take_served()
        add("p99_added_ms", "ms", added_s * 1000)
    streams, cpu_s = _with_cpu(
        process,
        lambda: run_closed(started.port, bench.streams, connections=plan.streams, seconds=plan.seconds, seed=seed),
    )
    if process is not None:
        add("chunks_per_cpu_s", "chunks/CPU-s", streams.events / cpu_s if cpu_s else 0.0)
        add("rss_loaded_mb", "MiB", process.rss_bytes() / _MIB)
    _merge(seen, bench.take_served())
    return _Measured(rows=rows, seen=seen)


def _wait_until_serving(bench: Bench, started: Started, timeout_s: float = 15.0) -> None:
    """Send one request at a time until one is answered rightly."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            run_closed(started.port, bench.unary[:1], connections=1, seconds=0)
        except (WrongAnswerError, ConnectionError):
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)
        else:
            return


def _p99_s(bench: Bench, port: int, requests_per_s: float, seed: int) -> float:
    result = run_open(
        port,
        bench.unary,
        requests_per_s=requests_per_s,
        connections=bench.plan.unary_connections * 2,
        seconds=bench.plan.seconds,
        seed=seed,
    )
    return quantile(sorted(result.latencies_s), 0.99)


def _with_cpu(process: Process | None, phase: Callable[[], PhaseResult]) -> tuple[PhaseResult, float]:
    before_s = process.cpu_s() if process is not None else 0.0
    result = phase()
    return result, (process.cpu_s() if process is not None else 0.0) - before_s


def _check_spool(bench: Bench, spool: Path, seen: dict[int, int], name: str) -> None:
    """Compare the meter with the upstream, once the subject has ended and its spool is final."""
    try:
        check_meter(expected_totals(bench.exchanges, seen), metered_totals(spool))
    except WrongAnswerError as error:
        raise WrongAnswerError(f"{name}: {error}") from error


def _merge(into: dict[int, int], counts: dict[int, int]) -> None:
    for index, count in counts.items():
        into[index] = into.get(index, 0) + count


def _give_plan(upstream: subprocess.Popen[bytes], plan: UpstreamPlan) -> tuple[int, ...]:
    if upstream.stdin is None or upstream.stdout is None:
        raise SubjectFailedError("the mock upstream has no pipes")
    upstream.stdin.write(msgspec.json.encode(plan))
    upstream.stdin.close()
    line = upstream.stdout.readline()
    if not line:
        raise SubjectFailedError(f"the mock upstream ended with code {upstream.wait()} before it listened")
    return msgspec.json.decode(line, type=tuple[int, ...])


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Keep the garbage collector away from the load generator: its table is large and never garbage."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
