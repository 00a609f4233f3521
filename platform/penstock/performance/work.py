"""Token work: what prompt, cached and completion tokens cost an engine, in one unit, so that they can be added.

Scaling divides work that arrives by work that a replica does; cost splits a replica's time by work done. Only ratios
matter to both. The unit is the work of one uncached prompt token when the weights are neutral, and seconds of step time
when they come from the step model or from measurements.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class WorkWeights(msgspec.Struct, frozen=True, kw_only=True):
    """Work per token of each kind."""

    prompt: float
    """Of an uncached prompt token: its pass through the network and its attention."""
    completion: float
    """Of a completion token: its share of the step's fixed time, its pass and its reading of the KV cache."""
    cached: float
    """Of a prompt token found in the prefix cache: it is not computed, but each later step reads its KV entries."""
    provenance: str
    """Where the numbers come from, in words."""


class WorkSplit(msgspec.Struct, frozen=True, kw_only=True):
    """The work of one request, or of many together, by kind of token."""

    prompt: float
    cached: float
    completion: float

    @property
    def total(self) -> float:
        """All three together."""
        return self.prompt + self.cached + self.completion


NEUTRAL = WorkWeights(
    prompt=1.0,
    completion=6.0,
    cached=0.3,
    provenance=(
        "neutral ratios: medians of the step model over four workloads on four pairs of model and accelerator, 32 "
        "requests running; a completion token is worth 2.4 to 12 uncached prompt tokens, a cached one 0.03 to 0.84"
    ),
)
"""Used until weights for the accelerator and the model are known; `tests/unit/performance` works the medians out."""


def split_work(
    prompt_tokens: float, cached_tokens: float, completion_tokens: float, weights: WorkWeights = NEUTRAL
) -> WorkSplit:
    """Return the work of tokens by kind.

    Args:
        prompt_tokens: all prompt tokens, cached ones included, as engines and usage records count them.
        cached_tokens: the part of them found in the prefix cache; more than all of them counts as all of them.
        completion_tokens: tokens generated.
        weights: work per token.
    """
    cached = min(max(cached_tokens, 0.0), max(prompt_tokens, 0.0))
    return WorkSplit(
        prompt=(max(prompt_tokens, 0.0) - cached) * weights.prompt,
        cached=cached * weights.cached,
        completion=max(completion_tokens, 0.0) * weights.completion,
    )


def work_of(
    prompt_tokens: float, cached_tokens: float, completion_tokens: float, weights: WorkWeights = NEUTRAL
) -> float:
    """Return the work of tokens of all kinds together; arguments as for `split_work`."""
    return split_work(prompt_tokens, cached_tokens, completion_tokens, weights).total


class StepCosts(msgspec.Struct, frozen=True, kw_only=True):
    """Coefficients of an engine step's time, in seconds.

    `step = fixed + token * tokens + attention * sum(chunk * (past + chunk / 2)) + kv * sum(context)
    + request * running`
    """

    fixed_s: float
    token_s: float
    attention_s: float
    kv_s: float
    request_s: float


class RequestShape(msgspec.Struct, frozen=True, kw_only=True):
    """The mean request that weights are made for, and how many run together."""

    prompt_tokens: float
    completion_tokens: float
    running: float


def step_costs(
    *,
    parameters: float,
    weight_bytes: float,
    layers: int,
    heads: int,
    head_size: int,
    kv_bytes_per_token: float,
    flops: float,
    bandwidth_bytes_per_s: float,
    accelerators: int = 1,
) -> StepCosts:
    """Return the step model's coefficients for a model on an accelerator.

    The efficiencies (0.95 and 0.75 of bandwidth, 0.70 of FLOP/s, 50 us a layer, 1 ms a step, 40 us a request) are the
    rounding of a fit to 255 published vLLM measurements on H100, H200 and B200 (mean error of time per output token
    5.7 %). Communication between accelerators is left out: with tensor parallelism prompt tokens cost more than said.

    Args:
        parameters: those active for one token (all of them unless the model is a mixture of experts).
        weight_bytes: bytes of weights that one step reads.
        layers: transformer layers.
        heads: attention heads.
        head_size: dimensions of a head.
        kv_bytes_per_token: KV-cache bytes of one token, all layers.
        flops: of one accelerator at the precision used, per second.
        bandwidth_bytes_per_s: memory bandwidth of one accelerator.
        accelerators: that share the model by tensor parallelism.
    """
    compute = accelerators * flops * 0.70
    bandwidth = accelerators * bandwidth_bytes_per_s
    return StepCosts(
        fixed_s=weight_bytes / (bandwidth * 0.95) + layers * 50e-6 + 1e-3,
        token_s=2 * parameters / compute,
        attention_s=4 * heads * head_size * layers / compute,
        kv_s=kv_bytes_per_token / (bandwidth * 0.75),
        request_s=40e-6,
    )


def weights_from_steps(costs: StepCosts, shape: RequestShape) -> WorkWeights:
    """Return work per token, in seconds, of requests of one shape running together.

    Summed over a request's tokens the weights give its share of all steps it takes part in. Each prompt token, cached
    or not, is read from the KV cache by every step of its request, which is all that a cached one costs.

    Raises:
        ValueError: `shape.running` is not positive.
    """
    if shape.running <= 0:
        raise ValueError(f"running is {shape.running}: give at least one request to share a step's time")
    reading_s = costs.kv_s * shape.completion_tokens
    return WorkWeights(
        prompt=costs.token_s + costs.attention_s * shape.prompt_tokens / 2 + reading_s,
        completion=costs.fixed_s / shape.running + costs.token_s + costs.request_s + reading_s / 2,
        cached=reading_s,
        provenance=(
            f"step model at {shape.prompt_tokens:.0f} prompt and {shape.completion_tokens:.0f} completion tokens, "
            f"{shape.running:.0f} running"
        ),
    )


class BusyInterval(msgspec.Struct, frozen=True, kw_only=True):
    """What one engine did in an interval during which it was never idle."""

    seconds: float
    uncached_tokens: float
    completion_tokens: float


MIN_INTERVALS = 20
"""Fewer busy intervals say too little for two unknowns under noise."""
MIN_INDEPENDENCE = 0.05
"""Least 1 - r^2 of prompt and completion tokens: below it the two costs cannot be told apart."""


def calibrate(intervals: Sequence[BusyInterval], base: WorkWeights = NEUTRAL) -> WorkWeights | None:
    """Estimate weights from what a busy engine did: least squares of time on the two kinds of token.

    The cached token keeps its ratio to the prompt token in `base`: counters do not show the cost of reading. The
    completion weight holds for the batch sizes seen, since larger batches share a step's fixed time among more.

    Returns:
        Weights in seconds, or None when the intervals cannot tell: fewer than `MIN_INTERVALS`, prompt and completion
        tokens that rise and fall together, or a cost that comes out at or below zero.
    """
    if len(intervals) < MIN_INTERVALS:
        return None
    pp = sum(i.uncached_tokens**2 for i in intervals)
    cc = sum(i.completion_tokens**2 for i in intervals)
    pc = sum(i.uncached_tokens * i.completion_tokens for i in intervals)
    pt = sum(i.uncached_tokens * i.seconds for i in intervals)
    ct = sum(i.completion_tokens * i.seconds for i in intervals)
    determinant = pp * cc - pc * pc
    if pp * cc == 0 or determinant / (pp * cc) < MIN_INDEPENDENCE:
        return None
    prompt = (pt * cc - ct * pc) / determinant
    completion = (ct * pp - pt * pc) / determinant
    if prompt <= 0 or completion <= 0:
        return None
    return WorkWeights(
        prompt=prompt,
        completion=completion,
        cached=prompt * base.cached / base.prompt,
        provenance=f"measured over {len(intervals)} busy intervals; cached tokens by ratio",
    )
