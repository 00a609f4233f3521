"""The benchmark `pick`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from penstock_loadtest.bench.pick.cost import pick_costs_us
from penstock_loadtest.bench.pick.policies import POLICIES
from penstock_loadtest.bench.pick.replay import Result, Setup, replay
from penstock_loadtest.bench.pick.twin import PREFILL_TOKENS_PER_S, TPOT_S
from penstock_loadtest.bench.records import Metric, Outcome, Row, Sample, summarise_samples
from penstock_loadtest.bench.registry import BenchSettings
from penstock_loadtest.errors import LoadSettingsError
from penstock_loadtest.traces.mooncake import BLOCK_TOKENS, PromptedArrival, read_mooncake_trace

NAME: Final = "pick"
MAX_OVER_MEAN: Final = 1.25
ONE_CACHE: Final = "one-cache"
"""No policy: what a single cache as large as all together would hit."""

SETUPS: Final = {
    f"{cache_tokens // 10**6}M_x{rate:g}": Setup(cache_tokens=cache_tokens, rate=rate)
    for rate in (1.0, 2.0)
    for cache_tokens in (1_000_000, 3_000_000, 10_000_000)
}

_COSTS: Final = (
    ("hash_us", "hashing the prompt's blocks"),
    ("match_us", "looking them up: who holds how much"),
    ("score_us", "choosing between 64 replicas by that and by load"),
    ("match_and_score_us", "both together"),
    ("record_us", "remembering where the prompt went, all of it known there"),
    ("record_new_us", "the same, nothing of it known"),
)

METRICS: Final = tuple(
    metric
    for setup in SETUPS
    for metric in (
        Metric(name=f"hits_{setup}", meaning=f"prompt tokens found in the chosen replica's cache ({setup})"),
        Metric(
            name=f"over_mean_p50_{setup}",
            meaning="load of the busiest replica over the mean, requests in flight averaged over 10 s; median window",
            higher_is_better=False,
        ),
        Metric(name=f"over_mean_p95_{setup}", meaning="the same, 95th percentile of windows", higher_is_better=False),
        Metric(name=f"even_{setup}", meaning=f"windows in which it is at most {MAX_OVER_MEAN}"),
        Metric(
            name=f"work_p50_{setup}",
            meaning="the same as over_mean_p50, of uncached prompt tokens in flight instead of requests",
            higher_is_better=False,
        ),
    )
) + tuple(
    Metric(name=name, meaning=f"{meaning}; 32 kB of prompt, 64 replicas", higher_is_better=False)
    for name, meaning in _COSTS
)

LEAVES_OUT: Final = (
    (
        f"Engines are played: {PREFILL_TOKENS_PER_S:,.0f} prompt tokens/s, one prompt after another, then "
        f"{TPOT_S * 1000:g} ms a token. Their caches keep blocks by age alone, and running requests hold none."
    ),
    "Blocks are the trace's own of 512 tokens; a gateway cuts bytes, and misses up to a block at the end of a match.",
    "One gateway process. Several learn apart: each knows what it sent itself.",
    "Nothing fails, drains or starts, and engines report no KV usage and no queue, which a pick also heeds.",
    "Of prompts of this trace 37 % could be found in a cache without an end; other traffic shares more, or nothing.",
)


def run(settings: BenchSettings, progress: Callable[[str], None]) -> Outcome:
    """Replay the trace with every policy and setup; each round with other arrival times within the trace's steps.

    Raises:
        LoadSettingsError: a subject has an unknown name.
    """
    if unknown := [name for name in settings.subjects if name not in POLICIES]:
        raise LoadSettingsError(f"subject {unknown[0]!r} is unknown; there are: {', '.join(POLICIES)}")
    chosen = settings.subjects or tuple(POLICIES)
    trace = read_mooncake_trace()
    samples: list[Sample] = []
    for seed in range(settings.rounds):
        for name, setup in SETUPS.items():
            for policy in chosen:
                result = replay(trace, setup, POLICIES[policy], seed=seed)
                samples += _samples(policy, name, result)
        progress(f"round {seed + 1} of {settings.rounds}")
        samples += [
            Sample(subject="penstock", metric=name, unit="us", value=value) for name, value in pick_costs_us(seed)
        ]
    for name, setup in SETUPS.items():
        share = one_cache_hit_share(trace, setup.cache_tokens)
        samples.append(Sample(subject=ONE_CACHE, metric=f"hits_{name}", unit="%", value=100 * share))
    rows = summarise_samples(NAME, samples)
    return Outcome(
        bench=NAME,
        rows=rows,
        baseline="cache-first" if "cache-first" in chosen else "",
        metrics=METRICS,
        versions={},
        leaves_out=LEAVES_OUT,
        notes=tuple(_notes(rows)),
    )


def one_cache_hit_share(trace: Sequence[PromptedArrival], cache_tokens: int) -> float:
    """Return the share of prompt tokens that one cache for all finds: what no split of it can be expected to exceed."""
    cache: OrderedDict[int, None] = OrderedDict()
    found = total = 0
    for request in trace:
        matched = next((n for n, block in enumerate(request.blocks) if block not in cache), len(request.blocks))
        found += min(matched * BLOCK_TOKENS, request.prompt_tokens)
        total += request.prompt_tokens
        for block in reversed(request.blocks):
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) > cache_tokens // BLOCK_TOKENS:
            cache.popitem(last=False)
    return found / total


def _samples(policy: str, setup: str, result: Result) -> Iterator[Sample]:
    requests, work = sorted(result.ratios.requests), sorted(result.ratios.work)
    for metric, unit, value in (
        ("hits", "%", 100 * result.hit_share),
        ("over_mean_p50", "x", _quantile(requests, 0.5)),
        ("over_mean_p95", "x", _quantile(requests, 0.95)),
        ("even", "%", 100 * sum(ratio <= MAX_OVER_MEAN for ratio in requests) / len(requests)),
        ("work_p50", "x", _quantile(work, 0.5)),
    ):
        yield Sample(subject=policy, metric=f"{metric}_{setup}", unit=unit, value=value)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[int(share * (len(ordered) - 1))]


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    """Say, of each setup, how far the gateway's pick is from the most hits and from the best balance."""
    medians = {(row.subject, row.metric): row.median for row in rows}
    for setup in SETUPS:
        hits, most = medians.get(("penstock", f"hits_{setup}")), medians.get(("cache-first", f"hits_{setup}"))
        even, best = medians.get(("penstock", f"even_{setup}")), medians.get(("least-loaded", f"even_{setup}"))
        if None not in {hits, most, even, best}:
            yield (
                f"{setup}: penstock {hits:.1f} % hits, cache-first {most:.1f} %; "
                f"windows within {MAX_OVER_MEAN}: penstock {even:.1f} %, least-loaded {best:.1f} %"
            )
