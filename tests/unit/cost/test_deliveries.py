from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from penstock.cost.deliveries import Acknowledgement, Delivery
from penstock.cost.ledger import Ledger
from penstock.cost.records import InFlightMark, ReplicaCensus, ReplicaEventKind, SpoolLine
from tests.unit.cost.builders import life, step, usage

SEGMENT = "gateway-1-ab-000000.jsonl"


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger(None) as ledger:
        yield ledger


def text(*lines: SpoolLine) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def delivery(start_bytes: int, data: bytes, *, sealed: bool = False, gone: bool = False) -> Delivery:
    return Delivery(segment=SEGMENT, start_bytes=start_bytes, data=data, sealed=sealed, writer_gone=gone)


def test_deliveries_that_follow_each_other_are_taken(ledger: Ledger) -> None:
    first, second = text(usage("a", 1, 2)), text(usage("b", 1, 2))
    intake = ledger.take([delivery(0, first), delivery(len(first), second, sealed=True)], now_s=0)
    assert (intake.records, intake.repeated, intake.gaps) == (2, 0, 0)
    assert intake.acknowledged == {SEGMENT: Acknowledgement(offset_bytes=len(first + second), complete=True)}


def test_a_delivery_that_leaves_a_gap_is_left_and_the_ledger_says_where_it_is(ledger: Ledger) -> None:
    first, second = text(usage("a", 1, 2)), text(usage("b", 1, 2))
    intake = ledger.take([delivery(len(first), second)], now_s=0)
    assert (intake.records, intake.gaps) == (0, 1)
    assert intake.acknowledged == {SEGMENT: Acknowledgement(offset_bytes=0)}
    assert ledger.take([delivery(0, first + second)], now_s=0).records == 2


def test_of_a_delivery_that_overlaps_what_is_new_is_taken(ledger: Ledger) -> None:
    first, second = text(usage("a", 1, 2)), text(usage("b", 1, 2))
    ledger.take([delivery(0, first)], now_s=0)
    intake = ledger.take([delivery(0, first + second)], now_s=0)
    assert (intake.records, intake.acknowledged[SEGMENT].offset_bytes) == (1, len(first + second))
    assert ledger.books().faults["duplicate"] == 0


def test_what_comes_again_changes_nothing(ledger: Ledger) -> None:
    whole = delivery(0, text(usage("a", 1, 2)), sealed=True, gone=True)
    ledger.take([whole], now_s=0)
    intake = ledger.take([whole, delivery(0, whole.data)], now_s=0)
    assert (intake.records, intake.repeated) == (0, 2)
    assert intake.acknowledged[SEGMENT].complete


def test_a_writer_that_has_gone_holds_nothing_back_also_when_its_words_come_again(ledger: Ledger) -> None:
    mark = delivery(0, text(InFlightMark(writer="w", at_s=5, oldest_start_s={})))
    ledger.take([mark], now_s=0)
    assert ledger.writers() == {"gateway-1-ab"}
    ledger.take([delivery(len(mark.data), b"", sealed=True, gone=True), mark], now_s=0)
    assert ledger.writers() == set()


def test_a_writer_released_as_lost_holds_back_again_once_it_is_heard(ledger: Ledger) -> None:
    line = text(InFlightMark(writer="w", at_s=5, oldest_start_s={}))
    ledger.take([delivery(0, line)], now_s=0)
    ledger.release(["gateway-1-ab"])
    assert ledger.writers() == set()
    ledger.take([delivery(len(line), line)], now_s=0)
    assert ledger.writers() == {"gateway-1-ab"}


def test_a_sealed_segment_is_forgotten_after_its_time_and_its_records_are_told_by_their_ids(ledger: Ledger) -> None:
    whole = delivery(0, text(usage("a", 1, 2)), sealed=True)
    ledger.take([whole], now_s=100)
    assert ledger.forget_sealed(100) == 0
    assert ledger.forget_sealed(101) == 1
    assert ledger.take([whole], now_s=200).records == 0
    assert ledger.books().faults["duplicate"] == 1


def test_a_census_ends_what_is_missing_from_it_and_nothing_that_began_later(ledger: Ledger) -> None:
    lines = text(
        *life(start=0, ready=5, replica="gone"),
        *life(start=0, ready=5, replica="there"),
        *life(start=50, replica="later"),
        ReplicaCensus(at_s=40, replicas=("there",)),
    )
    ledger.take([delivery(0, lines)], now_s=0)
    ends = {replica: line.end_ns for replica, line in ledger.books().timelines.items()}
    assert ends == {"gone": 40 * 10**9, "there": None, "later": None}


def test_of_two_leaders_words_the_earlier_counts(ledger: Ledger) -> None:
    again = [step(ReplicaEventKind.START, 70, cause="Adopted"), step(ReplicaEventKind.END, 90, cause="EndedUnseen")]
    lines = text(*again, *life(start=10, ready=20, end=80))
    intake = ledger.take([delivery(0, lines)], now_s=0)
    assert intake.records == 3
    (timeline,) = ledger.books().timelines.values()
    assert (timeline.start_ns, timeline.end_ns) == (10 * 10**9, 80 * 10**9)
    assert timeline.start_cause == "MinReplicas"


def test_ledgers_have_identities_of_their_own_and_backups_their_originals(tmp_path) -> None:
    with Ledger(tmp_path / "a") as first, Ledger(tmp_path / "b") as second:
        assert first.identity() != second.identity()
        with Ledger(None, copy_of=tmp_path / "a") as copy:
            assert copy.identity() == first.identity()
