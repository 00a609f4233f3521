"""The pick: laws that hold for any fleet, and the cases the laws do not reach."""

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.pick import Rejection, explain, last_resort, pick, score, split


@dataclass(frozen=True)
class View:
    id: str
    draining: bool = False
    ejected: bool = False
    kv_usage: float = 0.0
    waiting: int = 0
    in_flight: int = 0
    in_flight_at_report: int = 0


loads = st.fixed_dictionaries(
    {
        "draining": st.booleans(),
        "ejected": st.booleans(),
        "kv_usage": st.floats(0, 1),
        "waiting": st.integers(0, 1000),
        "in_flight": st.integers(0, 1000),
        "in_flight_at_report": st.integers(0, 1000),
    }
)
fleets = st.lists(loads, max_size=8).map(lambda items: [View(id=str(n), **item) for n, item in enumerate(items)])
turns = st.integers(0, 10_000)


@given(fleets, turns, st.sets(st.sampled_from("01234567")))
def test_never_a_draining_an_ejected_or_a_tried_replica(fleet: list[View], turn: int, tried: set[str]):
    chosen = pick(fleet, turn=turn, tried=tried)
    open_to_work = [view for view in fleet if not view.draining and not view.ejected and view.id not in tried]
    assert (chosen is None) == (not open_to_work)
    assert chosen is None or chosen in open_to_work


@given(fleets, turns)
def test_never_a_replica_that_is_worse_in_everything(fleet: list[View], turn: int):
    chosen = pick(fleet, turn=turn)
    for other in fleet:
        if chosen is None or other.draining or other.ejected:
            continue
        fresh, other_fresh = (view.in_flight - view.in_flight_at_report for view in (chosen, other))
        assert not (
            chosen.kv_usage > other.kv_usage
            and chosen.waiting > other.waiting
            and chosen.in_flight > other.in_flight
            and fresh > other_fresh
        )


@given(fleets, turns)
def test_the_reasons_agree_with_the_choice(fleet: list[View], turn: int):
    chosen = pick(fleet, turn=turn)
    told = explain(fleet, turn=turn)
    assert told.chosen == (None if chosen is None else chosen.id)
    considered = [candidate.score for candidate in told.candidates if candidate.rejected is None]
    assert chosen is None or score(chosen) == min(considered)


@given(loads, st.integers(1, 8), st.integers(0, 100))
def test_equal_replicas_take_turns(load: dict[str, object], count: int, first: int):
    fleet = [View(**{**load, "id": str(n), "draining": False, "ejected": False}) for n in range(count)]
    chosen = [pick(fleet, turn=first + n).id for n in range(count)]
    assert sorted(chosen) == sorted(view.id for view in fleet)


def test_what_was_sent_since_the_report_counts_more_than_what_the_report_knows():
    known = View("known", in_flight=4, in_flight_at_report=4)
    fresh = replace(known, id="fresh", in_flight_at_report=0)
    assert pick([fresh, known], turn=0) is known


def test_a_queue_outweighs_free_cache():
    assert pick([View("queue", waiting=2), View("full", kv_usage=0.4)], turn=0).id == "full"


def test_reasons_name_what_spoke_against_a_replica():
    fleet = [View("a", draining=True), View("b", ejected=True), View("c"), View("d")]
    told = explain(fleet, turn=0, tried=("c",))
    assert told.chosen == "d"
    assert [candidate.rejected for candidate in told.candidates] == [*Rejection, None]


@given(fleets, turns)
def test_the_last_resort_is_ejected_but_never_draining(fleet: list[View], turn: int):
    chosen = last_resort(fleet, turn=turn)
    assert (chosen is None) == (not any(view.ejected and not view.draining for view in fleet))
    assert chosen is None or (chosen.ejected and not chosen.draining)


@given(st.lists(st.integers(0, 100), max_size=6), st.floats(0, 1, exclude_max=True))
def test_a_split_never_chooses_weight_zero(weights: list[int], point: float):
    place = split(weights, point)
    assert (place is None) == (sum(weights) == 0)
    assert place is None or weights[place] > 0


def test_evenly_spread_points_give_each_backend_its_share():
    chosen = [split([90, 0, 10], n / 100) for n in range(100)]
    assert (chosen.count(0), chosen.count(1), chosen.count(2)) == (90, 0, 10)
