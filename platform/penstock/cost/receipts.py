"""One request's receipt: what it used, what that cost, and who bears it."""

from __future__ import annotations

import msgspec

from penstock.cost.books import Settled
from penstock.cost.ledger import Ledger
from penstock.cost.money import to_ns, to_usd
from penstock.cost.records import Outcome, UsageRecord
from penstock.cost.sharing import Share
from penstock.performance.work import NEUTRAL, WorkWeights


class RequestReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """What one request cost."""

    request: UsageRecord
    usd: float
    usd_by_kind: dict[str, float]
    """`prompt` (uncached), `cached`, `completion`."""
    borne_by: str
    """`tenant`, or `platform` for a request that failed."""
    settled: bool
    """False while later records may still change the amounts."""


def receipt_of(ledger: Ledger, request: str, *, now_s: float, weights: WorkWeights = NEUTRAL) -> RequestReceipt | None:
    """Return the receipt of a request, or None when the ledger does not know its id."""
    with ledger.consistently():
        record = ledger.usage_record(request)
        if record is None:
            return None
        share = ledger.settled_share(request)
        books = ledger.books(replica=record.replica)
    state = books.settled.get(record.replica, Settled())
    settled = state.closed or state.until_ns >= to_ns(record.end_s)
    if not settled and record.replica in books.timelines:
        attribution = books.attribute(record.replica, books.open_window(record.replica, to_ns(now_s)), weights)
        rest = next((one.share for one in attribution.receipts if one.record.id == request), Share())
        share = Share(share.prompt + rest.prompt, share.cached + rest.cached, share.completion + rest.completion)
    return RequestReceipt(
        request=record,
        usd=to_usd(share.total),
        usd_by_kind={
            "prompt": to_usd(share.prompt),
            "cached": to_usd(share.cached),
            "completion": to_usd(share.completion),
        },
        borne_by="platform" if record.outcome is Outcome.FAILED else "tenant",
        settled=settled,
    )
