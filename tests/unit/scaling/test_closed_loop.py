"""The law in a loop with a simple fleet: bursts, cold starts, and no flapping."""

from collections import deque
from itertools import pairwise

import pytest

from penstock.scaling.law import decide
from penstock.scaling.policy import ScalingPolicy
from penstock.scaling.snapshot import Capacity, Demand, Memory, ReplicaPhase, ReplicaReading, ScalingSnapshot

CAPACITY_RPS = 10.0
"""Requests a replica serves per second; each is one unit of work."""
SLOTS = 20
"""Requests that fill a replica's KV cache."""
COLD_START_S = 40
POLICY = ScalingPolicy(min_replicas=1, max_replicas=12, scale_down_after_s=120)


class Fleet:
    """Replicas that share one queue evenly, on a clock of one second."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.ready_from_s = [0]
        self.queue = 0.0
        self.arrivals = deque(maxlen=30)

    def tick(self, now_s, rps):
        self.arrivals.append(rps)
        serving = sum(start <= now_s for start in self.ready_from_s)
        self.queue = max(self.queue + rps - serving * CAPACITY_RPS, 0.0)

    def scale(self, now_s, target):
        while len(self.ready_from_s) < target:
            self.ready_from_s.append(now_s + COLD_START_S)
        del self.ready_from_s[target:]

    def snapshot(self, now_s, memory):
        serving = [start for start in self.ready_from_s if start <= now_s]
        rps = sum(self.arrivals) / len(self.arrivals)
        fast = list(self.arrivals)[-6:]
        busy = min(fast[-1] / (len(serving) * CAPACITY_RPS), 1.0) if not self.queue else 1.0
        waiting = int(self.queue / len(serving))
        return ScalingSnapshot(
            model="tiny",
            at_s=float(now_s),
            target=len(self.ready_from_s),
            readings=tuple(
                ReplicaReading(
                    replica=str(index),
                    state=ReplicaPhase.READY if start <= now_s else ReplicaPhase.STARTING,
                    since_s=float(start),
                    kv_usage=busy * 0.6,
                    kv_usage_peak=busy * 0.6,
                    running=int(busy * SLOTS),
                    waiting=waiting if start <= now_s else 0,
                    waiting_for_capacity=waiting if start <= now_s else 0,
                    reading_age_s=0.0 if start <= now_s else None,
                )
                for index, start in enumerate(self.ready_from_s)
            ),
            demand=Demand(
                arrival_rps=rps,
                fast_arrival_rps=sum(fast) / len(fast),
                work_per_request=1.0,
                backlog_requests=int(self.queue),
                backlog_work=self.queue,
                report_age_s=0.0,
            ),
            cold_start_s=COLD_START_S,
            capacity=self.capacity,
            memory=memory,
        )


def run(load, seconds, capacity):
    """Return the target, queue and direction of each second."""
    fleet, memory, history = Fleet(capacity), Memory(), []
    for now_s in range(seconds):
        fleet.tick(now_s, load(now_s))
        decision = decide(fleet.snapshot(now_s, memory), POLICY)
        fleet.scale(now_s, decision.target_after)
        memory = decision.memory
        history.append((decision.target_after, fleet.queue, decision.direction.value))
    return history


def turns(history):
    """How often the direction of change reversed."""
    moves = [direction for _, _, direction in history if direction != "Hold"]
    return sum(a != b for a, b in pairwise(moves))


KNOWN = Capacity(work_per_s=CAPACITY_RPS, samples=20)
UNKNOWN = Capacity()


@pytest.mark.parametrize("capacity", [KNOWN, UNKNOWN], ids=["known", "unknown"])
def test_a_burst_is_met_worked_off_and_let_go_without_flapping(capacity):
    history = run(lambda now_s: 45.0 if 100 <= now_s < 500 else 4.0, 2_400, capacity)
    assert history[-1][0] == 1
    assert history[499][1] == 0
    assert turns(history) == 1


def test_a_known_burst_is_met_with_what_it_takes_and_little_more():
    history = run(lambda now_s: 45.0 if now_s >= 100 else 4.0, 1_500, KNOWN)
    # 45 requests a second over 10 a replica, used to 0.85, is 6 replicas; the backlog of a cold start may add some.
    assert history[-1][0] in {6, 7}
    assert max(target for target, _, _ in history) <= 11


@pytest.mark.parametrize("rps", [3.0, 8.4, 8.6, 16.9, 17.1, 40.0])
def test_a_steady_load_settles(rps):
    history = run(lambda now_s: rps, 2_000, KNOWN)
    settled = {target for target, _, _ in history[1_000:]}
    assert len(settled) == 1
    assert turns(history) <= 1
    assert history[-1][1] == 0


def test_bursts_that_come_back_within_the_window_keep_the_fleet():
    history = run(lambda now_s: 35.0 if now_s % 100 < 60 else 5.0, 2_000, KNOWN)
    assert all(direction != "Down" for _, _, direction in history[200:])


def test_a_slow_wave_is_followed_both_ways():
    history = run(lambda now_s: 45.0 if now_s % 1_200 < 600 else 5.0, 3_600, KNOWN)
    assert turns(history) <= 6
    assert {history[599][0] >= 6, history[1_799][0] >= 6, history[2_999][0] >= 6} == {True}
