"""Does the meter agree with the upstream? The check that makes a fast wrong answer worthless."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from penstock.cost.records import Outcome, SpoolLine, UsageRecord
from penstock_loadtest.bench.gateway.traffic import Exchange
from penstock_loadtest.errors import WrongAnswerError

Totals = Counter[tuple[str, str, str]]
"""Sums by tenant, model and one of `requests`, `prompt_tokens`, `completion_tokens`."""


def expected_totals(exchanges: Sequence[Exchange], counts: Mapping[int, int]) -> Totals:
    """Sum what the upstream reported as usage, given how often it answered each exchange."""
    totals: Totals = Counter()
    for index, count in counts.items():
        exchange = exchanges[index]
        totals[exchange.tenant, exchange.model, "requests"] += count
        totals[exchange.tenant, exchange.model, "prompt_tokens"] += count * exchange.prompt_tokens
        totals[exchange.tenant, exchange.model, "completion_tokens"] += count * exchange.completion_tokens
    return totals


def metered_totals(spool: Path) -> Totals:
    """Sum the usage records in a spool directory.

    Raises:
        WrongAnswerError: a record says that its request did not complete, though every client had its answer.
    """
    totals: Totals = Counter()
    for record in _records(spool):
        if record.outcome is not Outcome.COMPLETE or record.partial:
            raise WrongAnswerError(f"usage record {record.id} is {record.outcome}, partial {record.partial}")
        totals[record.tenant, record.model, "requests"] += 1
        totals[record.tenant, record.model, "prompt_tokens"] += record.prompt_tokens
        totals[record.tenant, record.model, "completion_tokens"] += record.completion_tokens
    return totals


def check_meter(expected: Totals, metered: Totals) -> None:
    """Compare by tenant and model.

    Raises:
        WrongAnswerError: they differ anywhere; the message shows the first few places and both sums.
    """
    wrong = [key for key in sorted(expected.keys() | metered.keys()) if expected[key] != metered[key]]
    if wrong:
        shown = "; ".join(f"{'/'.join(k)}: metered {metered[k]}, upstream {expected[k]}" for k in wrong[:3])
        raise WrongAnswerError(
            f"the meter and the upstream differ in {len(wrong)} places ({shown}); in all, metered "
            f"{metered.total()} and upstream {expected.total()}"
        )


def _records(spool: Path) -> Iterable[UsageRecord]:
    decoder = msgspec.json.Decoder(SpoolLine)
    for path in sorted(spool.glob("*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                record = decoder.decode(line)
                if isinstance(record, UsageRecord):
                    yield record
