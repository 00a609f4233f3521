"""The pick: laws that hold for any fleet, and the cases the laws do not reach."""

from collections import Counter
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.pick import (
    MAX_OVER_MEAN,
    WORTH_ROUNDING_BYTES,
    Reason,
    Rejection,
    Shares,
    explain,
    last_resort,
    pick,
    score,
    session_point,
    split,
)
from penstock.routing.prefix import Holders


@dataclass(frozen=True)
class View:
    id: str
    draining: bool = False
    ejected: bool = False
    kv_usage: float = 0.0
    waiting: int = 0
    in_flight: int = 0
    in_flight_at_report: int = 0
    others: int = 0


loads = st.fixed_dictionaries(
    {
        "draining": st.booleans(),
        "ejected": st.booleans(),
        "kv_usage": st.floats(0, 1),
        "waiting": st.integers(0, 1000),
        "in_flight": st.integers(0, 1000),
        "in_flight_at_report": st.integers(0, 1000),
        "others": st.integers(0, 20),
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
            and chosen.others > other.others
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


variants = st.lists(
    st.tuples(st.integers(0, 20), st.lists(loads, max_size=3)),  # weight and replicas of each
    min_size=1,
    max_size=4,
)
points = st.floats(0, 1, exclude_max=True)


def fleet_of(
    given_variants: list[tuple[int, list[dict[str, object]]]],
) -> tuple[list[tuple[str, View]], dict[str, int]]:
    replicas = [
        (f"v{n}", View(id=f"v{n}.{place}", **item))
        for n, (_, items) in enumerate(given_variants)
        for place, item in enumerate(items)
    ]
    return replicas, {f"v{n}": weight for n, (weight, _) in enumerate(given_variants)}


def open_views(replicas: list[tuple[str, View]], tried: set[str]) -> list[View]:
    return [view for _, view in replicas if not view.draining and not view.ejected and view.id not in tried]


@given(variants, points, turns, st.sets(st.sampled_from([f"v{n}.{place}" for n in range(4) for place in range(3)])))
def test_a_variant_without_weight_is_chosen_only_when_no_other_can_be(
    given_variants: list[tuple[int, list[dict[str, object]]]], point: float, turn: int, tried: set[str]
):
    replicas, weights = fleet_of(given_variants)
    chosen = Shares(replicas, weights).choose(pick, point=point, turn=turn, tried=tried)
    able = open_views(replicas, tried)
    assert (chosen is None) == (not able)
    if chosen is not None:
        assert chosen in able
        variant = {view.id: name for name, view in replicas}[chosen.id]
        weighted = [view for view in able if weights[view.id.split(".")[0]] > 0]
        assert weights[variant] > 0 or not weighted
        assert chosen is pick([view for name, view in replicas if name == variant], turn=turn, tried=tried) or (
            weights[variant] == 0
        )


@given(variants)
def test_variants_with_a_replica_to_give_have_their_shares_of_all_points(
    given_variants: list[tuple[int, list[dict[str, object]]]],
):
    replicas, weights = fleet_of(given_variants)
    able = {view.id.split(".")[0] for view in open_views(replicas, set())}
    total = sum(weights[name] for name in able)
    if not total:
        return
    shares, count = Shares(replicas, weights), 2000
    got = Counter(shares.choose(pick, point=(n + 0.5) / count, turn=n).id.split(".")[0] for n in range(count))
    for name in able:
        assert abs(got[name] / count - weights[name] / total) < 0.01


@given(variants, points, st.integers(0, 3))
def test_no_session_moves_but_those_of_the_variant_that_went(
    given_variants: list[tuple[int, list[dict[str, object]]]], point: float, gone: int
):
    replicas, weights = fleet_of(given_variants)
    before = Shares(replicas, weights).choose(pick, point=point, turn=0)
    ejected = [(name, replace(view, ejected=view.ejected or name == f"v{gone}")) for name, view in replicas]
    after = Shares(ejected, weights).choose(pick, point=point, turn=0)
    if before is not None and before.id.split(".")[0] != f"v{gone}":
        assert after.id == before.id


def test_a_variant_whose_share_is_not_known_yet_waits_for_it():
    replicas = [("old", View("old.1")), ("new", View("new.1"))]
    shares = Shares(replicas, {"old": 1})
    assert {shares.choose(pick, point=n / 10, turn=n).id for n in range(10)} == {"old.1"}


def test_only_ejected_replicas_left_the_weighted_ones_are_the_first_resort():
    replicas = [("old", View("old.1", ejected=True)), ("new", View("new.1", ejected=True))]
    shares = Shares(replicas, {"old": 0, "new": 1})
    assert shares.choose(pick, point=0.0, turn=0) is None
    assert shares.choose(last_resort, point=0.0, turn=0).id == "new.1"
    assert shares.choose(last_resort, point=0.0, turn=0, tried={"new.1"}).id == "old.1"


@given(st.binary())
def test_a_session_has_one_point(key: bytes):
    assert session_point(key) == session_point(key)
    assert 0 <= session_point(key) < 1


def test_sessions_are_spread_evenly():
    points = [session_point(b"session %d" % n) for n in range(4000)]
    for tenth in range(10):
        assert abs(sum(tenth <= 10 * point < tenth + 1 for point in points) - 400) < 100


@st.composite
def knowledge(draw: st.DrawFn) -> list[Holders]:
    """Who holds how much, the most first, as an index tells it: who holds more is among those that hold less."""
    levels, names = [], frozenset[str]()
    for matched in sorted(draw(st.sets(st.integers(1, 100_000), max_size=4)), reverse=True):
        names |= draw(st.frozensets(st.sampled_from("01234567"), min_size=1))
        levels.append(Holders(matched, names))
    return levels


def able(fleet: list[View], tried: set[str]) -> list[View]:
    return [view for view in fleet if not view.draining and not view.ejected and view.id not in tried]


@given(fleets, turns, knowledge(), st.sets(st.sampled_from("01234567")))
def test_affinity_never_chooses_a_draining_an_ejected_or_a_tried_replica(
    fleet: list[View], turn: int, near: list[Holders], tried: set[str]
):
    chosen = pick(fleet, turn=turn, tried=tried, near=near)
    assert (chosen is None) == (not able(fleet, tried))
    assert chosen is None or chosen in able(fleet, tried)


@given(fleets, turns, knowledge())
def test_affinity_takes_no_replica_over_its_bound(fleet: list[View], turn: int, near: list[Holders]):
    chosen = pick(fleet, turn=turn, near=near)
    if chosen is None or chosen is pick(fleet, turn=turn):
        return  # the pressure chose it, or would have
    open_to_work = able(fleet, set())
    mean = (sum(view.in_flight + view.others for view in open_to_work) + 1) / len(open_to_work)
    held = max(holders.matched_bytes for holders in near if chosen.id in holders.replicas)
    rounding = 1 if held >= WORTH_ROUNDING_BYTES else 0
    assert chosen.in_flight + chosen.others + 1 <= max(1, MAX_OVER_MEAN * mean + rounding)


@given(turns, knowledge(), st.integers(1, 8), st.integers(0, 50))
def test_replicas_in_balance_give_a_prompt_to_the_one_that_holds_most(
    turn: int, near: list[Holders], count: int, load: int
):
    fleet = [View(str(n), in_flight=10 * load, in_flight_at_report=10 * load) for n in range(count)]
    chosen = pick(fleet, turn=turn, near=near)
    best = next((holders for holders in near if any(view.id in holders.replicas for view in fleet)), None)
    assert best is None or chosen.id in best.replicas


@given(st.integers(2, 8), st.integers(40, 80), st.integers(0, 100_000))
def test_one_prompt_for_all_starves_no_replica(count: int, requests: int, matched: int):
    """Requests that never end and all begin alike: what one replica alone holds at first spreads over all."""
    in_flight = dict.fromkeys(map(str, range(count)), 0)
    holding: set[str] = set()
    for turn in range(requests):
        fleet = [View(name, in_flight=held, in_flight_at_report=held) for name, held in in_flight.items()]
        chosen = pick(fleet, turn=turn, near=[Holders(matched, frozenset(holding))] if holding and matched else [])
        in_flight[chosen.id] += 1
        holding.add(chosen.id)
    assert max(in_flight.values()) <= MAX_OVER_MEAN * requests / count + 1
    assert min(in_flight.values()) > 0


def test_who_has_no_room_saves_nothing():
    near = [Holders(50_000, frozenset({"full"}))]
    free = View("free", kv_usage=0.2)
    assert pick([View("full", kv_usage=0.6), free], turn=0, near=near).id == "full"
    assert pick([View("full", kv_usage=0.9), free], turn=0, near=near).id == "free"
    assert pick([View("full", waiting=3), free], turn=0, near=near).id == "free"


def test_the_next_best_holder_takes_what_the_best_cannot():
    fleet = [View("most", in_flight=9), View("some", in_flight=3), View("none", in_flight=2)]
    near = [Holders(9_000, frozenset({"most"})), Holders(5_000, frozenset({"most", "some"}))]
    assert pick(fleet, turn=0, near=near).id == "some"


def test_requests_of_other_gateways_count():
    fleet = [View("near", others=4), View("far")]
    assert pick(fleet, turn=0, near=[Holders(1000, frozenset({"near"}))]).id == "far"


def test_reasons_say_what_affinity_came_to():
    fleet = [View("busy", in_flight=9), View("free")]
    near = [Holders(2000, frozenset({"busy"}))]
    told = explain(fleet, turn=0, near=near)
    assert (told.chosen, told.reason, told.max_load) == ("free", Reason.SPREAD, MAX_OVER_MEAN * 5)
    assert [(scored.matched_bytes, scored.over_bound) for scored in told.candidates] == [(2000, True), (0, False)]
    assert explain(fleet, turn=0).reason is Reason.PRESSURE
    assert explain(fleet[1:], turn=0, near=[Holders(2000, frozenset({"free"}))]).reason is Reason.PREFIX


@given(fleets, turns, knowledge())
def test_an_explanation_is_of_the_pick_itself(fleet: list[View], turn: int, near: list[Holders]):
    chosen = pick(fleet, turn=turn, near=near)
    assert explain(fleet, turn=turn, near=near).chosen == (None if chosen is None else chosen.id)
