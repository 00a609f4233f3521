"""Reports: the books at one moment as dollars, by model and tenant, with what an independent meter says was paid.

The denominators, by name: `prompt`, `cached` and `completion` are dollars attributed to tokens of that kind over tokens
of that kind (`prompt` means uncached prompt tokens); `blended` is all dollars attributed to tenants over all their
tokens; `blended_allocated` is all dollars paid, idle and overhead included, over the same tokens. The first four say
what tokens cost to make, the last what they cost to have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from penstock.cost.attribution import Category
from penstock.cost.books import TENANT, Amount, Books, LineKey, Lines, add_lines
from penstock.cost.intake import CLIPPED
from penstock.cost.money import price_picousd_per_hour, span_cost_picousd, to_ns, to_usd
from penstock.cost.records import MeterReading
from penstock.performance.work import NEUTRAL, WorkWeights

KINDS = ("prompt", "cached", "completion")


class PerMillionTokens(msgspec.Struct, frozen=True, kw_only=True):
    """USD per million tokens, by denominator; None where there were no tokens. See the module's words."""

    prompt: float | None
    cached: float | None
    completion: float | None
    blended: float | None
    blended_allocated: float | None
    """None where paid time cannot be told apart: for a tenant."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What tokens cost, for one tenant, one model, or all."""

    usd: float
    """Attributed to tenants."""
    usd_by_kind: dict[str, float]
    tokens: dict[str, int]
    """By kind, of requests that did not fail."""
    per_million_tokens: PerMillionTokens


class ModelAccount(Account, frozen=True, kw_only=True):
    """What one model cost."""

    paid_usd: float
    idle_usd: dict[str, float]
    """By cause."""
    overhead_usd: dict[str, float]
    pending_usd: float


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One amount at the finest grain; reports and metrics are sums of these."""

    model: str
    bearer: str
    name: str
    kind: str
    usd: float
    tokens: int


class CostReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was paid, who used it, and what is left unexplained.

    `paid_usd - tenants_usd - idle_usd - overhead_usd - pending_usd = unattributed_usd`: all but the last are measured.
    """

    since_s: float | None
    """Unix seconds; None: since the ledger began."""
    until_s: float
    paid_usd: float
    """By the meter, which knows nothing of requests or replica events."""
    tenants_usd: float
    idle_usd: float
    overhead_usd: float
    pending_usd: float
    """Time in which requests ran whose records have not come; 0 once all have ended."""
    unattributed_usd: float
    drift_ratio: float | None
    """`unattributed_usd / paid_usd`; None when nothing was paid."""
    idle_by_cause_usd: dict[str, float]
    overhead_by_cause_usd: dict[str, float]
    total: Account
    by_tenant: dict[str, Account]
    by_model: dict[str, ModelAccount]
    lines: tuple[Line, ...]
    faults: dict[str, int]
    """Records that could not be counted as they are, by reason."""

    @property
    def per_million_tokens(self) -> PerMillionTokens:
        """USD per million tokens of all models and tenants together."""
        return self.total.per_million_tokens


def build_report(
    books: Books,
    *,
    now_s: float,
    since_s: float | None = None,
    until_s: float | None = None,
    settled_only: bool = False,
    weights: WorkWeights = NEUTRAL,
) -> CostReport:
    """Report what the books say.

    Args:
        books: `Ledger.books(since_s)`.
        now_s: Open intervals end here (Unix seconds).
        since_s: The start of the stretch that the books were asked for. Tokens count where their request ended, money
            where its seconds were spent.
        until_s: The end of the stretch; None: now. It needs books of a start, since settled amounts have no dates.
        settled_only: Leave out what later records may still change; every amount then only grows from report to report.
        weights: Work per token of each kind, for what is not settled.
    """
    now_ns = to_ns(now_s)
    end_s = now_s if until_s is None else min(now_s, until_s)
    end_ns = None if until_s is None else to_ns(end_s)
    lines: Lines = {key: Amount(amount.picousd, amount.tokens) for key, amount in books.lines.items()}
    faults = dict(books.faults)
    if not settled_only:
        attributions = [
            books.attribute(name, books.open_window(name, now_ns, end_ns), weights)
            for name, timeline in books.timelines.items()
            if name in books.usage and (end_ns is None or timeline.start_ns < end_ns)
        ]
        add_lines(lines, attributions)
        faults[CLIPPED] = faults.get(CLIPPED, 0) + sum(one.clipped_records for one in attributions)
    paid = _paid_by_model(books, 0 if since_s is None else to_ns(since_s), to_ns(end_s))
    paid_picousd = sum(paid.values())
    by_bearer = {
        bearer: sum(amount.picousd for key, amount in lines.items() if key.bearer == bearer)
        for bearer in (TENANT, Category.IDLE.value, Category.OVERHEAD.value, Category.PENDING.value)
    }
    unattributed = paid_picousd - sum(by_bearer.values())
    models = sorted({key.model for key in lines} | (paid.keys() - {""}))
    return CostReport(
        since_s=since_s,
        until_s=end_s,
        paid_usd=to_usd(paid_picousd),
        tenants_usd=to_usd(by_bearer[TENANT]),
        idle_usd=to_usd(by_bearer[Category.IDLE.value]),
        overhead_usd=to_usd(by_bearer[Category.OVERHEAD.value]),
        pending_usd=to_usd(by_bearer[Category.PENDING.value]),
        unattributed_usd=to_usd(unattributed),
        drift_ratio=unattributed / paid_picousd if paid_picousd else None,
        idle_by_cause_usd=_by_cause(lines.items(), Category.IDLE),
        overhead_by_cause_usd=_by_cause(lines.items(), Category.OVERHEAD),
        total=_account(lines.items(), paid_picousd),
        by_tenant={name: _account(_of_tenant(lines, name), None) for name in _tenants(lines)},
        by_model={model: _model_account(_of_model(lines, model), paid.get(model, 0)) for model in models},
        lines=tuple(
            Line(**key._asdict(), usd=to_usd(amount.picousd), tokens=amount.tokens)
            for key, amount in sorted(lines.items())
        ),
        faults=faults,
    )


Entries = Iterable[tuple[LineKey, Amount]]


def _tenants(lines: Lines) -> list[str]:
    return sorted({key.name for key in lines if key.bearer == TENANT})


def _of_tenant(lines: Lines, tenant: str) -> Entries:
    return [(key, amount) for key, amount in lines.items() if key.bearer == TENANT and key.name == tenant]


def _of_model(lines: Lines, model: str) -> Entries:
    return [(key, amount) for key, amount in lines.items() if key.model == model]


def _account(entries: Entries, paid_picousd: int | None) -> Account:
    picousd = dict.fromkeys(KINDS, 0)
    tokens = dict.fromkeys(KINDS, 0)
    for key, amount in entries:
        if key.bearer == TENANT:
            picousd[key.kind] += amount.picousd
            tokens[key.kind] += amount.tokens
    total, all_tokens = sum(picousd.values()), sum(tokens.values())
    return Account(
        usd=to_usd(total),
        usd_by_kind={kind: to_usd(amount) for kind, amount in picousd.items()},
        tokens=tokens,
        per_million_tokens=PerMillionTokens(
            prompt=_rate(picousd["prompt"], tokens["prompt"]),
            cached=_rate(picousd["cached"], tokens["cached"]),
            completion=_rate(picousd["completion"], tokens["completion"]),
            blended=_rate(total, all_tokens),
            blended_allocated=None if paid_picousd is None else _rate(paid_picousd, all_tokens),
        ),
    )


def _model_account(entries: Entries, paid_picousd: int) -> ModelAccount:
    entries = list(entries)
    pending = sum(amount.picousd for key, amount in entries if key.bearer == Category.PENDING.value)
    return ModelAccount(
        **msgspec.structs.asdict(_account(entries, paid_picousd)),
        paid_usd=to_usd(paid_picousd),
        idle_usd=_by_cause(entries, Category.IDLE),
        overhead_usd=_by_cause(entries, Category.OVERHEAD),
        pending_usd=to_usd(pending),
    )


def _by_cause(entries: Entries, category: Category) -> dict[str, float]:
    picousd: dict[str, int] = {}
    for key, amount in entries:
        if key.bearer == category.value:
            picousd[key.name] = picousd.get(key.name, 0) + amount.picousd
    return {cause: to_usd(amount) for cause, amount in sorted(picousd.items())}


def _rate(picousd: int, tokens: int) -> float | None:
    return to_usd(picousd) * 1e6 / tokens if tokens else None


def _paid_by_model(books: Books, since_ns: int, now_ns: int) -> Mapping[str, int]:
    """Add the meter's readings up by model; those of replicas that no event names are under the empty name."""
    paid: dict[str, int] = {}
    for replica, reading in books.meters.items():
        timeline = books.timelines.get(replica)
        model = "" if timeline is None else timeline.model
        paid[model] = paid.get(model, 0) + _paid(reading, since_ns, now_ns)
    return paid


def _paid(reading: MeterReading, since_ns: int, now_ns: int) -> int:
    began_ns = to_ns(reading.began_s)
    start_ns = max(began_ns, since_ns)
    end_ns = max(start_ns, min(to_ns(reading.seen_s), now_ns))
    return span_cost_picousd(price_picousd_per_hour(reading.usd_per_hour), began_ns, start_ns, end_ns)
