"""One replay of a trace over a twin of replicas, under one policy."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence

import msgspec

from penstock_loadtest.bench.pick.policies import Policy
from penstock_loadtest.bench.pick.twin import Ratios, Replica, Windows
from penstock_loadtest.traces.mooncake import BLOCK_TOKENS, STEP_S, PromptedArrival


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What is replayed on what."""

    cache_tokens: int
    """Of all replicas together."""
    rate: float = 1.0
    """Times the trace's own rate of arrivals; its order stays."""
    replicas: int = 8
    window_s: float = 10.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay came to."""

    hit_share: float
    """Prompt tokens found in the chosen replica's cache, of all."""
    in_flight_mean: float
    """Requests at a replica, over the whole replay."""
    ratios: Ratios


def replay(
    trace: Sequence[PromptedArrival],
    setup: Setup,
    policy: Callable[[Sequence[Replica], int, random.Random], Policy],
    *,
    seed: int,
) -> Result:
    """Send every request of the trace to a replica, at its time.

    Args:
        trace: The requests.
        setup: How many replicas, with which caches, at which rate.
        policy: Makes the policy, from the replicas, the tokens each holds, and a source of randomness.
        seed: Of the times within the trace's steps, and of the policy.
    """
    rng = random.Random(seed)  # noqa: S311 - a simulation
    each_tokens = setup.cache_tokens // setup.replicas
    fleet = [Replica(f"r{place}", each_tokens // BLOCK_TOKENS) for place in range(setup.replicas)]
    chooser = policy(fleet, each_tokens, rng)
    arrivals = sorted(
        ((request.at_ms / 1000 + rng.random() * STEP_S) / setup.rate, place) for place, request in enumerate(trace)
    )
    windows = Windows(setup.replicas, setup.window_s)
    ends: list[tuple[float, int, int]] = []
    found = total = 0
    in_flight_s = 0.0
    numbers = {replica.id: place for place, replica in enumerate(fleet)}
    for at_s, place in arrivals:
        while ends and ends[0][0] <= at_s:
            end_s, number, work = heapq.heappop(ends)
            windows.advance(end_s, fleet)
            fleet[number].in_flight -= 1
            fleet[number].work_tokens -= work
        windows.advance(at_s, fleet)
        request = trace[place]
        replica = chooser.choose(request.blocks)
        matched = min(replica.matched_blocks(request.blocks) * BLOCK_TOKENS, request.prompt_tokens)
        work = request.prompt_tokens - matched
        end_s = replica.serve(at_s, request.blocks, work, request.output_tokens)
        replica.in_flight += 1
        replica.work_tokens += work
        heapq.heappush(ends, (end_s, numbers[replica.id], work))
        found += matched
        total += request.prompt_tokens
        in_flight_s += end_s - at_s
    span_s = arrivals[-1][0] - arrivals[0][0]
    return Result(
        hit_share=found / total,
        in_flight_mean=in_flight_s / span_s / setup.replicas,
        ratios=windows.ratios(),
    )
