"""Polls in, decisions out: the way from engine metrics and gateway load to a step up and a step down."""

from penstock.engines.base import EngineLoad
from penstock.routing.load import LATENCY_BUCKETS_S, GatewayLoad, ModelLoad
from penstock.scaling.law import decide
from penstock.scaling.observe import LoadWindow
from penstock.scaling.policy import ScalingPolicy
from penstock.scaling.snapshot import Memory, Prices, ReplicaPhase

POLICY = ScalingPolicy(min_replicas=1, max_replicas=2, scale_down_after_s=20)
COLD_START_S = 60
LOAD_S = 120
"""How long the load lasts; it is light before 10 s and after this."""


def tpot_buckets(streams):
    counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
    counts[1] = streams
    return counts


class Platform:
    """A replica with room for 13 requests of 500 tokens, 24 of which are always in flight under load."""

    def __init__(self):
        self.window, self.memory, self.target = LoadWindow(), Memory(), 1
        self.replicas = {"a": 0.0}
        self.done, self.preempted, self.tokens = 0, 0, 0

    def poll(self, now_s):
        loaded = 10 <= now_s < LOAD_S
        serving = [name for name, ready_s in self.replicas.items() if ready_s <= now_s]
        each = (24 if loaded else 2) // len(serving)
        running = min(each, 13)
        self.preempted += 4 if loaded and each > 13 else 0
        for name in serving:
            load = EngineLoad(
                kv_usage=running * 0.0745,
                running=running,
                waiting=each - running,
                waiting_for_capacity=each - running,
                preemptions=self.preempted,
                prompt_tokens=40 * self.done,
                generation_tokens=500 * self.done,
                prefix_queries=0,
                prefix_hits=0,
                kv_blocks=64,
                block_tokens=128,
            )
            self.window.engine(name, load, now_s)
        self.done += 6 if loaded else 0
        counters = ModelLoad(
            model="tiny",
            variant="tiny--cpu",
            arrived=self.done + each * len(serving),
            admitted=self.done + each * len(serving),
            completed=self.done,
            prompt_tokens=40 * self.done,
            completion_tokens=500 * self.done,
            in_flight=each * len(serving),
            tpot_s_sum=0.008 * self.done,
            tpot_buckets=tpot_buckets(self.done),
        )
        self.window.gateway(GatewayLoad(process="g", at_s=now_s, snapshot_version=1, models=(counters,)))

    def decide(self, now_s):
        replicas = [
            (name, ReplicaPhase.READY if ready_s <= now_s else ReplicaPhase.STARTING, ready_s)
            for name, ready_s in self.replicas.items()
        ]
        snapshot = self.window.snapshot(
            "tiny",
            now_s,
            replicas=replicas,
            target=self.target,
            prices=Prices(usd_per_replica_hour="0.10"),
            memory=self.memory,
        )
        decision = decide(snapshot, POLICY)
        self.memory, self.target = decision.memory, decision.target_after
        if self.target == 2 and "b" not in self.replicas:
            self.replicas["b"] = now_s + COLD_START_S
        if self.target == 1:
            self.replicas.pop("b", None)
        return decision


def test_one_two_one_under_kv_pressure_and_calm():
    platform, moves = Platform(), []
    for second in range(300):
        platform.poll(float(second))
        decision = platform.decide(float(second))
        if decision.target_after != decision.target_before:
            moves.append((second, decision.target_after, decision.ruling))
    assert [(target, ruling) for _, target, ruling in moves] == [(2, "kv"), (1, "calm")]
    (up_s, _, _), (down_s, _, _) = moves
    assert 10 <= up_s < 20
    assert down_s >= LOAD_S + POLICY.scale_down_after_s
