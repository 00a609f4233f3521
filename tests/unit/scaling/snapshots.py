"""Builders of snapshots, each with the least that a test has to say."""

import msgspec

from penstock.scaling.law import decide
from penstock.scaling.snapshot import Demand, Memory, ReplicaPhase, ReplicaReading, ScalingSnapshot

AT_S = 10_000.0


def ready(name="a", **fields):
    """A replica that has served for long and was read a second ago."""
    usage = fields.pop("kv_usage", 0.2)
    defaults = {"running": 4, "reading_age_s": 1.0, "since_s": AT_S - 5_000, "kv_usage_peak": usage}
    return ReplicaReading(replica=name, state=ReplicaPhase.READY, kv_usage=usage, **(defaults | fields))


def starting(name="s"):
    return ReplicaReading(replica=name, state=ReplicaPhase.STARTING, since_s=AT_S - 10)


def draining(name="d"):
    return ReplicaReading(replica=name, state=ReplicaPhase.DRAINING, since_s=AT_S - 10, reading_age_s=1.0)


def demand(rps=1.0, **fields):
    """A steady demand of requests that are one unit of work each."""
    defaults = {
        "arrival_rps": rps,
        "fast_arrival_rps": rps,
        "work_per_request": 1.0,
        "prompt_tokens": 100.0,
        "completion_tokens": 100.0,
        "completed_requests": 100,
        "report_age_s": 1.0,
    }
    return Demand(**(defaults | fields))


def backlog(requests, **fields):
    return demand(backlog_requests=requests, backlog_work=float(requests), **fields)


def snapshot(*readings, target=None, **fields):
    count = sum(reading.state is not ReplicaPhase.DRAINING for reading in readings)
    defaults = {"model": "tiny", "at_s": AT_S, "demand": demand()}
    return ScalingSnapshot(readings=readings, target=count if target is None else target, **(defaults | fields))


def decide_for(first, policy, seconds, step_s=1.0):
    """Decide on the same sights once a second, carrying memory and target, until one moves the target."""
    current, decisions = first, []
    for _ in range(int(seconds / step_s) + 1):
        decision = decide(current, policy)
        decisions.append(decision)
        if decision.target_after != decision.target_before:
            break
        current = later(current, step_s, memory=decision.memory)
    return decisions


def later(before, seconds, **changes):
    return msgspec.structs.replace(before, at_s=before.at_s + seconds, **changes)


LONG_SHORT = Memory(kv_short_since_s=AT_S - 60)
LONG_QUEUED = Memory(queued_since_s=AT_S - 60)
