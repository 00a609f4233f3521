"""The benchmark `gateway`: routers compared in one run, round by round."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from penstock_loadtest.bench.gateway.measure import GatewayPlan, measure_subject, running_bench
from penstock_loadtest.bench.gateway.subjects import SUBJECTS, Direct, Subject
from penstock_loadtest.bench.machine import Cores, choose_cores, package_version
from penstock_loadtest.bench.records import Metric, Outcome, Row, Sample, summarise_samples
from penstock_loadtest.bench.registry import BenchSettings
from penstock_loadtest.errors import LoadSettingsError

NAME = "gateway"
BASELINE = "vllm-router"

METRICS = (
    Metric(name="unary_rps", meaning="answers in one piece, closed loop at 32 connections"),
    Metric(name="unary_core_share", meaning="share of its core that it used meanwhile"),
    Metric(name="unary_per_cpu_s", meaning="the same answers per second of processor time"),
    Metric(
        name="p99_added_ms",
        meaning="p99 latency at half of its own unary_rps, less the upstream's own at that rate",
        higher_is_better=False,
    ),
    Metric(name="chunks_per_cpu_s", meaning="stream events relayed per second of processor time, 256 streams"),
    Metric(name="rss_mb", meaning="resident memory before the first load", higher_is_better=False),
    Metric(name="rss_loaded_mb", meaning="resident memory after all load", higher_is_better=False),
)

LEAVES_OUT = (
    "nginx and vllm-router check no keys, count no tokens and look at no model name here; Penstock does all three.",
    "vllm-router runs round_robin, its fastest policy here, not its default cache_aware; retries stay at its defaults.",
    "Byte-equal means the response body, without headers and chunk framing.",
    "Of a request the last message must arrive unchanged, not the whole body: vllm-router writes the JSON anew.",
    "Loopback, HTTP/1.1 without TLS, one process on one core, one mock upstream that thinks for no time.",
    "p99_added_ms contains the scheduling of load and upstream on their shared core; the difference cancels part.",
)


def run(settings: BenchSettings, progress: Callable[[str], None]) -> Outcome:
    """Run the benchmark.

    Raises:
        LoadSettingsError: a subject has an unknown name.
        BenchError: a subject is missing or failed, or an answer or the meter was wrong.
    """
    subjects: list[Subject] = [Direct(), *choose_subjects(settings.subjects)]
    versions = {s.name: version for s in subjects if (version := s.prepare(settings.build_folder))}
    plan = GatewayPlan(rounds=settings.rounds, seconds=settings.seconds)
    cores = choose_cores()
    busy = os.getloadavg()[0]
    samples = measure_rounds(plan, cores, subjects, progress)
    rows = summarise_samples(NAME, samples)
    return Outcome(
        bench=NAME,
        rows=rows,
        baseline=BASELINE if any(s.name == BASELINE for s in subjects) else "direct",
        metrics=METRICS,
        versions={**versions, **_libraries()},
        leaves_out=LEAVES_OUT,
        notes=tuple(_notes(rows, cores, busy)),
    )


def measure_rounds(
    plan: GatewayPlan, cores: Cores, subjects: Sequence[Subject], progress: Callable[[str], None]
) -> list[Sample]:
    """Measure all subjects in every round (A B C, A B C, ...), so that a drift of the machine hits all alike."""
    samples: list[Sample] = []
    with running_bench(plan, cores) as bench:
        for number in range(plan.rounds):
            for subject in subjects:
                progress(f"gateway: round {number + 1} of {plan.rounds}, {subject.name}")
                samples += measure_subject(bench, subject, number)
    return samples


def choose_subjects(names: Sequence[str]) -> list[Subject]:
    """Return the named subjects, or all when none is named.

    Raises:
        LoadSettingsError: a name is not a subject's.
    """
    unknown = [name for name in names if name not in SUBJECTS]
    if unknown:
        raise LoadSettingsError(f"subject {unknown[0]!r} is unknown; gateway knows {', '.join(SUBJECTS)}")
    return [kind() for name, kind in SUBJECTS.items() if not names or name in names]


def _notes(rows: Sequence[Row], cores: Cores, busy: float) -> list[str]:
    notes = [f"subjects on core {cores.subject}, load and upstream on core {cores.load}"]
    if cores.shared:
        notes.append("only one core was usable: the load took time from the subjects, so these numbers are too low")
    if busy >= 0.5:
        notes.append(f"{busy:.1f} other tasks wanted the processor before the start: medians lie low and spreads wide")
    notes += [
        f"{row.subject} got {row.median:.0%} of its core: unary_rps is what load and other work left it, not its limit"
        for row in rows
        if row.metric == "unary_core_share" and row.median < 0.9
    ]
    return notes


def _libraries() -> dict[str, str]:
    return {name: package_version(name) for name in ("uvloop", "httptools", "msgspec")}
