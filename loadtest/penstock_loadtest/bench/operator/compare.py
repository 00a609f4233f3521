"""The benchmark `operator`."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence

from penstock_loadtest.bench.machine import package_version
from penstock_loadtest.bench.operator.audit import Call
from penstock_loadtest.bench.operator.measure import SUBJECT, Round, measure_round
from penstock_loadtest.bench.operator.plan import OperatorPlan
from penstock_loadtest.bench.records import Metric, Outcome, summarise_samples
from penstock_loadtest.bench.registry import BenchSettings
from penstock_loadtest.controlplane.programs import find
from penstock_loadtest.errors import LoadSettingsError

NAME = "operator"

METRICS = tuple(
    Metric(name=name, meaning=meaning, higher_is_better=False)
    for name, meaning in (
        ("reconciled_s", "from the start of the process, Models being there, to the last one's Ready in its status"),
        ("first_ready_s", "the same, to the first"),
        ("median_ready_s", "the same, to the median"),
        (
            "calls_per_model",
            "API calls until it was quiet, watches and lease left out, those for namespaces and classes included",
        ),
        ("reconcile_cpu_s", "processor seconds of the operator until then"),
        ("idle_calls_per_min", "API calls while nothing changes, watches and lease left out"),
        ("idle_lease_calls_per_min", "reads and renewals of the lease meanwhile"),
        ("idle_core_share", "processor use meanwhile: every pool and every replica is still looked at"),
        ("rss_mb", "resident memory after that"),
        ("peak_rss_mb", "largest resident memory of all phases, seen once a second"),
        ("edit_replicas_p50_s", "from a patch of scaling.minReplicas 1 to 2, to a status with both ready"),
        ("edit_replicas_p99_s", "the same, 99th percentile"),
        ("edit_engine_argument_p50_s", "from a patch of engine.args to a status in which only the new revision serves"),
        ("edit_engine_argument_p99_s", "the same, 99th percentile"),
    )
)

LEAVES_OUT = (
    "KubeRay and Ray Serve are played: replicas start, drain and answer at once. These are the operator's own times.",
    "No engine runs and no request arrives: metrics pages are small and never change.",
    "The API server, etcd without fsync, the stand-ins and the operator share the machine's cores.",
    "One operator process; a second candidate would add its reads of the lease.",
    "No admission webhooks, quotas or audit of other users, which clusters often have.",
)


def run(settings: BenchSettings, progress: Callable[[str], None]) -> Outcome:
    """Run the benchmark as it is meant: 1,000 Models in 50 namespaces.

    Raises:
        LoadSettingsError: a subject has an unknown name.
        BenchError: a program is missing, the operator ended, or Models did not converge.
    """
    if unknown := [name for name in settings.subjects if name != SUBJECT]:
        raise LoadSettingsError(f"subject {unknown[0]!r} is unknown; operator knows {SUBJECT}")
    return run_plan(
        OperatorPlan(rounds=settings.rounds, bytecode=settings.build_folder / "operator-bytecode"), progress
    )


def run_plan(plan: OperatorPlan, progress: Callable[[str], None]) -> Outcome:
    """Run the benchmark at other sizes.

    Raises:
        BenchError: as `run`.
    """
    busy = os.getloadavg()[0]
    rounds: list[Round] = []
    for number in range(plan.rounds):
        progress(f"operator: round {number + 1} of {plan.rounds}")
        rounds.append(asyncio.run(measure_round(plan, find, progress)))
    return Outcome(
        bench=NAME,
        rows=summarise_samples(NAME, [sample for one in rounds for sample in one.samples]),
        baseline="",
        metrics=METRICS,
        versions={name: package_version(name) for name in ("kubernetes", "msgspec")},
        leaves_out=LEAVES_OUT,
        notes=tuple(_notes(plan, rounds, busy)),
    )


def _notes(plan: OperatorPlan, rounds: Sequence[Round], busy: float) -> list[str]:
    calls: Counter[Call] = Counter()
    for one in rounds:
        calls.update(one.by_call)
    shares = [
        f"{call.verb} {call.resource} {count / len(rounds) / plan.models:.2f}" for call, count in calls.most_common()
    ]
    notes = [
        f"{plan.models} Models in {plan.namespaces} namespaces, {plan.edits} edits at {plan.edits_per_s:g} a second",
        f"API calls per Model until all were ready, by the API server's audit log: {', '.join(shares)}",
    ]
    if any(one.unaccounted < 0 for one in rounds):
        notes.append("the operator's own metrics did not answer, so its count could not be compared with the audit log")
    elif worst := max(one.unaccounted for one in rounds):
        notes.append(f"the operator's own count of API calls differed from the audit log by up to {worst}")
    else:
        notes.append("the operator's own count of API calls agreed with the audit log in every round")
    if busy >= 0.5:
        notes.append(f"{busy:.1f} other tasks wanted the processor before the start: times are too long")
    return notes
