"""Rollouts: whatever replicas do and whenever, what carries a Model never loses capacity to one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.rollout import Rollout, RolloutStrategy
from penstock.control.conditions import Statement
from penstock.control.revisions import Running, Wanted
from penstock.control.rollout import Phase, plan_rollout, with_rollout
from penstock.control.status import ConditionType

SURGE = Rollout()
CANARY = Rollout(strategy=RolloutStrategy.CANARY, canary_percent=25, canary_seconds=60)


class Serve:
    """Serve with as many replicas as it is told, which become ready and end when a test says so."""

    def __init__(self, rollout=SURGE):
        self.rollout = rollout
        self.state = None
        self.now_s = 1000.0
        self.apps = {}
        self.plan = None

    def step(self, wanted, *, after_s=1.0):
        self.now_s += after_s
        running = [
            Running(name=name, target=app["target"], ready=app["ready"], replicas=app["replicas"], failed=app["failed"])
            for name, app in self.apps.items()
        ]
        want = [Wanted(name=name, target=target) for name, target in wanted.items()]
        self.plan = plan_rollout(want, running, self.rollout, self.state, self.now_s)
        self.state = self.plan.state
        planned = {item.name: item for item in self.plan.variants}
        self.apps = {name: app for name, app in self.apps.items() if name in planned}
        for name, item in planned.items():
            app = self.apps.setdefault(name, {"ready": 0, "replicas": 0, "failed": None})
            app["target"] = item.target
            app["ready"] = min(app["ready"], item.target)  # Ray stops what does not run yet first; the rest drains
            app["replicas"] = max(app["replicas"], item.target)
        return self.plan

    def start(self, name, count=1):
        app = self.apps[name]
        app["ready"] = min(app["target"], app["ready"] + count)

    def settle(self, wanted):
        for _ in range(40):
            plan = self.step(wanted, after_s=30.0)
            for name, app in self.apps.items():
                self.start(name, 1)
                app["replicas"] = max(app["target"], app["ready"])
        return plan

    def carried(self):
        """Ready replicas of what carries the model: a canary comes on top, and goes at once when it is taken back."""
        names = self.plan.carriers & set(self.state.stable)
        return sum(app["ready"] for name, app in self.apps.items() if name in names)


def shape(plan):
    return {item.name: (item.target, item.weight) for item in plan.variants}


def test_a_first_revision_has_no_rollout():
    serve = Serve()
    assert shape(serve.step({"m--cpu--a": 2})) == {"m--cpu--a": (2, None)}
    assert serve.plan.phase is Phase.STEADY


def test_an_application_that_is_to_have_none_is_not_started():
    assert shape(Serve().step({"m--cpu--a": 0})) == {}


def test_the_new_revision_takes_over_when_it_has_as_many():
    serve = Serve()
    serve.settle({"a": 2})
    plan = serve.step({"b": 2})
    assert shape(plan) == {"b": (2, 0), "a": (2, 2)}
    assert plan.phase is Phase.SURGING
    serve.start("b")
    assert shape(serve.step({"b": 2})) == {"b": (2, 0), "a": (2, 2)}
    serve.start("b")
    plan = serve.step({"b": 2})
    assert shape(plan) == {"b": (2, 2), "a": (0, 0)}
    assert plan.phase is Phase.RETIRING
    serve.apps["a"]["replicas"] = 0
    plan = serve.step({"b": 2})
    assert shape(plan) == {"b": (2, None)}
    assert plan.phase is Phase.STEADY


def test_what_drains_stays_until_its_last_replica_has_ended():
    serve = Serve()
    serve.settle({"a": 1})
    serve.step({"b": 1})
    serve.start("b")
    serve.step({"b": 1})
    for _ in range(5):
        assert "a" in shape(serve.step({"b": 1}))


def test_a_revision_that_does_not_start_leaves_the_old_one_serving_and_says_so():
    serve = Serve()
    serve.settle({"a": 2})
    serve.step({"b": 2})
    serve.apps["b"]["failed"] = "ValueError: no such flag --x"
    plan = serve.step({"b": 2})
    assert plan.phase is Phase.FAILED
    assert "no such flag --x" in plan.message
    assert "set it back" in plan.message
    assert shape(plan)["a"] == (2, 2)
    assert plan.carriers == {"a"}


def test_the_old_revision_follows_the_load_while_it_serves():
    serve = Serve()
    serve.settle({"a": 2})
    serve.step({"b": 2})
    assert shape(serve.step({"b": 3}))["a"][0] == 3
    assert shape(serve.step({"b": 1}))["a"][0] == 1


def test_an_edit_that_is_taken_back_is_instant():
    serve = Serve()
    serve.settle({"a": 2})
    serve.step({"b": 2})
    serve.start("b")
    plan = serve.step({"a": 2})
    assert shape(plan) == {"a": (2, 2), "b": (0, 0)}


def test_a_revision_that_never_took_over_goes_when_a_third_one_comes():
    serve = Serve()
    serve.settle({"a": 2})
    serve.step({"b": 2})
    serve.start("b")
    assert shape(serve.step({"c": 2})) == {"c": (2, 0), "a": (2, 2), "b": (0, 0)}


def test_a_revision_that_never_served_is_not_waited_for():
    serve = Serve()
    serve.step({"a": 1})
    serve.apps["a"]["failed"] = "ValueError: no such flag --x"
    assert shape(serve.step({"b": 1})) == {"b": (1, 1), "a": (0, 0)}


def test_a_model_without_replicas_changes_at_once():
    serve = Serve()
    serve.settle({"a": 1})
    serve.settle({"a": 0})
    assert shape(serve.step({"b": 0})) == {}


def test_a_placement_that_is_unchanged_keeps_its_share():
    serve = Serve()
    serve.settle({"cpu--a": 1, "gpu--a": 1})
    plan = serve.step({"cpu--a": 1, "gpu--b": 1})
    assert shape(plan) == {"cpu--a": (1, 1), "gpu--b": (1, 0), "gpu--a": (1, 1)}
    serve.start("gpu--b")
    assert shape(serve.step({"cpu--a": 1, "gpu--b": 1})) == {"cpu--a": (1, 1), "gpu--b": (1, 1), "gpu--a": (0, 0)}


def test_a_placement_gives_up_replicas_only_when_another_has_them():
    serve = Serve()
    serve.settle({"cpu": 2})
    assert shape(serve.step({"cpu": 1, "gpu": 1}))["cpu"][0] == 2
    serve.start("gpu")
    assert shape(serve.step({"cpu": 1, "gpu": 1}))["cpu"][0] == 1


def test_a_canary_takes_its_share_for_its_time():
    serve = Serve(CANARY)
    serve.settle({"a": 4})
    plan = serve.step({"b": 4})
    assert shape(plan) == {"b": (1, 0), "a": (4, 4)}
    serve.start("b")
    plan = serve.step({"b": 4})
    assert plan.phase is Phase.CANARY
    weights = {item.name: item.weight for item in plan.variants}
    assert weights["b"] / (weights["a"] + weights["b"]) == pytest.approx(0.25)
    assert shape(serve.step({"b": 4}, after_s=59.0))["b"][0] == 1
    plan = serve.step({"b": 4}, after_s=2.0)
    assert shape(plan)["b"][0] == 4
    weights = {item.name: item.weight for item in plan.variants}
    assert weights["b"] / (weights["a"] + weights["b"]) == pytest.approx(0.25)
    serve.start("b", 3)
    assert shape(serve.step({"b": 4}))["a"] == (0, 0)


def test_a_canary_that_fails_begins_its_time_anew():
    serve = Serve(CANARY)
    serve.settle({"a": 4})
    serve.step({"b": 4})
    serve.start("b")
    serve.step({"b": 4})
    serve.apps["b"] |= {"ready": 0, "failed": "RuntimeError: out of memory"}
    plan = serve.step({"b": 4}, after_s=50.0)
    assert plan.phase is Phase.FAILED
    assert plan.carriers == {"a"}
    serve.apps["b"]["failed"] = None
    serve.start("b")
    serve.step({"b": 4})
    assert shape(serve.step({"b": 4}, after_s=59.0))["b"][0] == 1


def test_a_canary_that_is_taken_back_goes_at_once():
    serve = Serve(CANARY)
    serve.settle({"a": 4})
    serve.step({"b": 4})
    serve.start("b")
    serve.step({"b": 4})
    assert shape(serve.step({"a": 4})) == {"a": (4, 4), "b": (0, 0)}


@pytest.mark.parametrize("rollout", [SURGE, CANARY])
def test_a_leader_that_remembers_nothing_goes_on(rollout):
    serve = Serve(rollout)
    serve.settle({"a": 2})
    serve.step({"b": 2})
    serve.start("b")
    serve.state = None
    plan = serve.step({"b": 2})
    assert shape(plan)["a"][0] == 2
    assert "a" in plan.carriers
    assert shape(serve.settle({"b": 2})) == {"b": (2, None)}


def test_an_old_placement_that_serves_stays_before_one_that_does_not():
    serve = Serve(SURGE)
    serve.settle({"x--a": 2})
    serve.step({"x--a": 0})
    serve.step({"x--a": 1, "y--a": 1})
    serve.start("y--a")
    serve.step({"x--a": 1, "y--a": 1})
    plan = serve.step({"x--b": 1})
    assert shape(plan)["y--a"][0] == 1
    assert shape(plan)["x--a"][0] == 0


WANTED = st.dictionaries(st.sampled_from(["x--a", "x--b", "y--a", "y--b"]), st.integers(0, 3), min_size=1, max_size=2)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("want"), WANTED),
        st.tuples(st.just("start"), st.integers(0, 3)),
        st.tuples(st.just("fail"), st.integers(0, 3)),
        st.tuples(st.just("end"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(1, 100)),
    ),
    max_size=40,
)


@settings(max_examples=400)
@given(actions=ACTIONS, rollout=st.sampled_from([SURGE, CANARY]))
def test_capacity_never_falls_below_what_it_was_unless_the_target_fell_and_every_rollout_ends(actions, rollout):
    serve = Serve(rollout)
    wanted = {"x--a": 2}
    serve.settle(wanted)
    for kind, value in actions:
        after_s = 1.0
        if kind == "want":
            wanted = value
        elif kind == "wait":
            after_s = float(value)
        else:
            name = sorted(serve.apps)[value % len(serve.apps)] if serve.apps else None
            if name is None:
                continue
            app = serve.apps[name]
            if kind == "start":
                serve.start(name)
            elif kind == "fail":
                app["failed"] = "RuntimeError: x" if app["ready"] == 0 else None
            else:
                app["replicas"] = max(app["target"], app["ready"])
        before = serve.carried()
        serve.step(wanted, after_s=after_s)
        assert serve.carried() >= min(before, sum(wanted.values()))
        assert all(item.target >= 0 and (item.weight or 0) >= 0 for item in serve.plan.variants)
    for app in serve.apps.values():
        app["failed"] = None
    plan = serve.settle(wanted)
    assert plan.phase is Phase.STEADY
    assert shape(plan) == {name: (target, None) for name, target in wanted.items() if target or name in serve.apps}
    assert serve.carried() == sum(wanted.values())


def test_conditions_tell_of_a_rollout():
    said = [
        Statement(type=ConditionType.READY, status=True, reason="ReplicasReady", message="2 of 2"),
        Statement(type=ConditionType.PROGRESSING, status=False, reason="Settled", message=""),
        Statement(type=ConditionType.DEGRADED, status=False, reason="AsWanted", message=""),
    ]
    serve = Serve()
    serve.settle({"a": 2})
    assert with_rollout(said, serve.plan) == tuple(said)
    told = {item.type: item for item in with_rollout(said, serve.step({"b": 2}))}
    assert (told["Progressing"].status, told["Progressing"].reason) == (True, "RollingOut")
    serve.apps["b"]["failed"] = "ValueError: x"
    told = {item.type: item for item in with_rollout(said, serve.step({"b": 2}))}
    assert (told["Degraded"].status, told["Degraded"].reason) == (True, "RolloutFailed")
    assert told["Ready"].status is True
