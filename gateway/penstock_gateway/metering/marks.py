"""Marks: once a second the spool says which requests are still under way, so that the ledger can settle the rest."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.cost.records import InFlightMark

MARK_PERIOD_S = 1.0
CLOCK_MARGIN_S = 0.01
"""A record's start is stamped when the request ends, with the clocks' difference of then, which may have crept."""


def mark_of(writer: str, at_s: float, under_way: Iterable[tuple[str, float]]) -> InFlightMark:
    """Return the mark of one moment.

    Args:
        writer: `SpoolWriter.identity`.
        at_s: Now, Unix seconds.
        under_way: Replica and start (Unix seconds) of every request that is at a replica.
    """
    oldest: dict[str, float] = {}
    for replica, start_s in under_way:
        earlier_s = start_s - CLOCK_MARGIN_S
        if earlier_s < oldest.get(replica, at_s):
            oldest[replica] = earlier_s
    return InFlightMark(writer=writer, at_s=at_s - CLOCK_MARGIN_S, oldest_start_s=oldest)
