"""What a shipper knows of one segment, and what each answer of Redis makes of it. Pure: no file, socket or clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from penstock.cost.deliveries import Acknowledgement


@dataclass(frozen=True, slots=True)
class Sent:
    """One entry of the stream that is not acknowledged yet."""

    entry: bytes
    """Its id in the stream."""
    start_bytes: int
    end_bytes: int
    records: int
    """Lines."""
    sealed: bool


@dataclass(frozen=True, slots=True)
class Shipment:
    """How far one segment has come. Offsets are bytes from the segment's start."""

    segment: str
    acknowledged_bytes: int = 0
    """Committed, as the ledger said last."""
    sent_bytes: int = 0
    """From here the next entry begins."""
    in_flight: tuple[Sent, ...] = ()
    """In the order in which they were sent: together from `acknowledged_bytes`, or a little before, to `sent_bytes`."""
    asked: bool = False
    """Whether the ledger's word has been looked for: before that, nothing is sent."""
    complete: bool = False
    """The ledger has committed all of it: the file may be deleted."""
    acknowledged_records: int = 0
    """Lines of ours that were acknowledged."""
    resent: int = 0
    """Times that entries in flight were given up for lost."""

    @property
    def oldest(self) -> bytes | None:
        """The entry to look for in the stream: where it is gone without being acknowledged, it is lost."""
        return self.in_flight[0].entry if self.in_flight else None

    @property
    def in_flight_bytes(self) -> int:
        """Bytes in the stream that are not acknowledged."""
        return sum(one.end_bytes - one.start_bytes for one in self.in_flight)

    @property
    def sealed(self) -> bool:
        """Whether all there is has been sent."""
        return self.complete or any(one.sealed for one in self.in_flight)


def with_sent(shipment: Shipment, entries: Sequence[Sent]) -> Shipment:
    """Return the shipment after entries were added to the stream."""
    if not entries:
        return shipment
    return replace(shipment, in_flight=(*shipment.in_flight, *entries), sent_bytes=entries[-1].end_bytes)


def with_answer(shipment: Shipment, acknowledged: Acknowledgement | None, *, oldest_present: bool) -> Shipment:
    """Return the shipment after a look at Redis.

    Args:
        shipment: As it was when the look was taken.
        acknowledged: What the segment's key held; None for nothing, which says nothing.
        oldest_present: Whether `shipment.oldest` was in the stream at the same moment.
    """
    after = replace(shipment, asked=True)
    if acknowledged is not None:
        if acknowledged.complete:
            records = sum(one.records for one in shipment.in_flight)
            return replace(
                after,
                complete=True,
                in_flight=(),
                acknowledged_bytes=acknowledged.offset_bytes,
                sent_bytes=acknowledged.offset_bytes,
                acknowledged_records=shipment.acknowledged_records + records,
            )
        if acknowledged.offset_bytes < shipment.acknowledged_bytes:
            # Another ledger, or an older copy of ours: it has less than we were told once, and its word holds.
            return _again_from(after, acknowledged.offset_bytes)
        after = _up_to(after, acknowledged.offset_bytes)
    lost = after.oldest is not None and after.oldest == shipment.oldest and not oldest_present
    return _again_from(after, after.acknowledged_bytes) if lost else after


def _up_to(shipment: Shipment, offset_bytes: int) -> Shipment:
    # The sealing entry stays until the ledger says `complete`, which may come with no bytes of its own.
    done = [one for one in shipment.in_flight if one.end_bytes <= offset_bytes and not one.sealed]
    return replace(
        shipment,
        acknowledged_bytes=offset_bytes,
        sent_bytes=max(shipment.sent_bytes, offset_bytes),
        in_flight=tuple(one for one in shipment.in_flight if one not in done),
        acknowledged_records=shipment.acknowledged_records + sum(one.records for one in done),
    )


def _again_from(shipment: Shipment, offset_bytes: int) -> Shipment:
    return replace(
        shipment,
        acknowledged_bytes=offset_bytes,
        sent_bytes=offset_bytes,
        in_flight=(),
        resent=shipment.resent + bool(shipment.in_flight),
    )
