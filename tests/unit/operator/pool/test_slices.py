"""EndpointSlices: planned again after an apply there is nothing to do, and a victim is offered to nobody."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from penstock.scaling.snapshot import ReplicaPhase
from penstock_operator.pool.slices import plan_slices, published, wanted_slices
from tests.unit.operator.pool.makers import NAMESPACE, life

VARIANTS = ("llama--h100--aaaa", "llama--h100--bbbb", "llama--l4--cccc")
LIVES = st.lists(
    st.builds(
        life,
        st.integers(0, 30).map(lambda number: f"r{number}"),
        st.sampled_from(VARIANTS),
        phase=st.sampled_from(list(ReplicaPhase)),
        address=st.sampled_from([None, "10.0.0.1", "10.0.0.2", "fd00::1"]),
        port=st.sampled_from([None, 30000, 30001]),
    ),
    unique_by=lambda one: one.id,
    max_size=12,
)
WEIGHTS = st.dictionaries(st.sampled_from(VARIANTS), st.one_of(st.none(), st.integers(0, 9)))
LEAVING = st.frozensets(st.integers(0, 30).map(lambda number: f"r{number}"))


def applied(current, plan):
    """Return the slices after a plan was carried out, as the API server has them."""
    after = {item["metadata"]["name"]: item for item in current}
    for item in plan.delete:
        del after[item["metadata"]["name"]]
    for body in plan.apply:
        found = copy.deepcopy(dict(body))
        found["metadata"]["resourceVersion"] = "1"
        found["ports"] = [{**port, "appProtocol": None} for port in found["ports"]]
        after[body["metadata"]["name"]] = found
    return list(after.values())


def ready(slices):
    return {e["hostname"] for item in slices for e in item["endpoints"] if e["conditions"]["ready"]}


@given(LIVES, LEAVING, WEIGHTS, LIVES, LEAVING, WEIGHTS)
def test_what_is_applied_is_not_planned_again(lives, leaving, weights, later, leaving_later, weights_later):  # noqa: PLR0917
    current = applied([], plan_slices(wanted_slices(NAMESPACE, lives, leaving, weights), []))
    wanted = wanted_slices(NAMESPACE, later, leaving_later, weights_later)
    after = applied(current, plan_slices(wanted, current))
    assert plan_slices(wanted, after).is_empty
    assert all(item["endpoints"] for item in after)


@given(LIVES, LEAVING)
def test_only_who_may_have_requests_is_offered_and_at_its_own_port(lives, leaving):
    slices = wanted_slices(NAMESPACE, lives, leaving, {}).values()
    offered = {one.id for one in lives if one.phase is ReplicaPhase.READY and one.address and one.port} - leaving
    assert ready(slices) == offered
    places = {
        e["hostname"]: (e["addresses"][0], item["ports"][0]["port"]) for item in slices for e in item["endpoints"]
    }
    assert places == {
        one.id: (one.address, one.port)
        for one in lives
        if one.phase is not ReplicaPhase.STARTING and one.address and one.port
    }


def test_who_comes_is_told_before_who_goes():
    old, new = life("old", VARIANTS[0]), life("new", VARIANTS[1], port=30001)
    current = applied([], plan_slices(wanted_slices(NAMESPACE, [old], frozenset(), {}), []))
    for weights in ({}, {VARIANTS[0]: 0, VARIANTS[1]: 1}):
        plan = plan_slices(wanted_slices(NAMESPACE, [old, new], frozenset({"old"}), weights), current)
        assert [body["endpoints"][0]["hostname"] for body in plan.apply] == ["new", "old"]


def test_a_weight_is_an_annotation_and_goes_when_no_share_is_set():
    lives = [life("r0")]
    current = applied([], plan_slices(wanted_slices(NAMESPACE, lives, frozenset(), {VARIANTS[0]: 3}), []))
    assert current[0]["metadata"]["annotations"]["penstock.dev/weight"] == "3"
    plan = plan_slices(wanted_slices(NAMESPACE, lives, frozenset(), {}), current)
    assert [body["metadata"]["annotations"] for body in plan.apply] == [{"penstock.dev/variant": VARIANTS[0]}]


def test_slices_tell_a_new_leader_who_was_there():
    current = applied([], plan_slices(wanted_slices(NAMESPACE, [life("r0")], frozenset(), {}), []))
    assert published(current) == {"r0": ("llama", VARIANTS[0])}
