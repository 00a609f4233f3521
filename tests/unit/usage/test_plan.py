from __future__ import annotations

from penstock.cost.deliveries import Acknowledgement
from penstock_usage.plan import Sent, Shipment, with_answer, with_sent


def sent(start_bytes: int, end_bytes: int, *, sealed: bool = False) -> Sent:
    return Sent(b"%d-0" % (end_bytes + sealed), start_bytes, end_bytes, records=1, sealed=sealed)


SHIPMENT = with_sent(Shipment("a"), [sent(0, 10), sent(10, 20), sent(20, 30)])


def answered(shipment: Shipment, offset_bytes: int | None, *, present: bool = True, complete: bool = False) -> Shipment:
    word = None if offset_bytes is None else Acknowledgement(offset_bytes=offset_bytes, complete=complete)
    return with_answer(shipment, word, oldest_present=present)


def test_what_is_acknowledged_is_in_flight_no_more() -> None:
    after = answered(SHIPMENT, 20)
    assert (after.acknowledged_bytes, after.sent_bytes, after.in_flight) == (20, 30, (sent(20, 30),))
    assert (after.acknowledged_records, after.in_flight_bytes, after.resent) == (2, 10, 0)


def test_what_is_gone_without_an_acknowledgement_is_sent_again() -> None:
    after = answered(SHIPMENT, None, present=False)
    assert (after.sent_bytes, after.in_flight, after.resent) == (0, (), 1)
    after = answered(answered(SHIPMENT, 10), 10, present=False)
    assert (after.sent_bytes, after.in_flight, after.resent) == (10, (), 1)


def test_what_is_gone_because_it_was_acknowledged_is_not_sent_again() -> None:
    after = answered(SHIPMENT, 10, present=False)
    assert (after.sent_bytes, len(after.in_flight), after.resent) == (30, 2, 0)


def test_no_word_is_no_news() -> None:
    after = answered(answered(SHIPMENT, 20), None)
    assert (after.acknowledged_bytes, after.sent_bytes) == (20, 30)


def test_a_ledger_that_has_less_than_before_gets_it_again() -> None:
    after = answered(answered(SHIPMENT, 30), 10)
    assert (after.acknowledged_bytes, after.sent_bytes) == (10, 10)
    after = answered(answered(SHIPMENT, 20), 0)
    assert (after.acknowledged_bytes, after.sent_bytes, after.in_flight, after.resent) == (0, 0, (), 1)


def test_a_process_that_starts_anew_goes_on_where_the_ledger_is() -> None:
    after = answered(Shipment("a"), 500)
    assert (after.acknowledged_bytes, after.sent_bytes) == (500, 500)


def test_only_the_ledgers_word_makes_a_segment_complete() -> None:
    sealed = with_sent(SHIPMENT, [sent(30, 30, sealed=True)])
    after = answered(sealed, 30)
    assert after.sealed
    assert not after.complete
    assert after.oldest == b"31-0"
    assert answered(after, 30, complete=True).complete
