"""The planner converges from anywhere, drops nothing that is wanted, and never disturbs a count it did not mean to."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.serve.applications import ServeOptions
from penstock.serve.errors import ApplicationClashError
from penstock.serve.plan import DesiredApplication, PutConfig, ScaleTo, plan, predict_victims, without_refused
from penstock.serve.status import ServeStatus, parse_status
from tests.unit.serve.fakes import Serve, application

OPTIONS = ServeOptions(http_host="127.0.0.1", http_port=8123)
EMPTY = ServeStatus(started=False, applications={})

names = st.sampled_from(["a", "b", "c", "d"])
argvs = st.sampled_from([("--model", "x"), ("--model", "y")])
wishes = st.dictionaries(names, st.tuples(argvs, st.integers(0, 4)), max_size=4)


def desire(wish: dict[str, tuple[tuple[str, ...], int]]) -> list[DesiredApplication]:
    return [DesiredApplication(application=application(name, argv), target=n) for name, (argv, n) in wish.items()]


def settle(serve: Serve, desired: list[DesiredApplication]) -> int:
    """Plan and apply until nothing is left to do; return the rounds it took."""
    for rounds in range(10):
        actions = plan(desired, serve.status(), OPTIONS)
        if not actions:
            return rounds
        for action in actions:
            serve.apply(action)
        serve.build()
    raise AssertionError("the plan does not converge")


@given(st.lists(wishes, min_size=1, max_size=4))
def test_any_sequence_of_wishes_is_reached_in_one_put_and_one_round_of_scaling(history):
    serve = Serve()
    for wish in history:
        desired = desire(wish)
        assert settle(serve, desired) <= 2
        assert serve.targets == {name: n for name, (_, n) in wish.items()}
        assert plan(desired, serve.status(), OPTIONS) == ()


@given(wishes, wishes)
def test_a_put_holds_every_wanted_application_and_keeps_the_counts_that_live(before, after):
    serve = Serve()
    settle(serve, desire(before))
    counts = dict(serve.targets)
    for action in plan(desire(after), serve.status(), OPTIONS):
        if isinstance(action, PutConfig):
            put = {app["name"]: app["deployments"][0]["num_replicas"] for app in action.body["applications"]}
            assert put.keys() == after.keys()
            for name, n in put.items():
                assert n == max(1, counts.get(name, after[name][1]))


@given(wishes, names, st.integers(0, 4))
def test_a_new_count_alone_never_puts_and_never_restarts(wish, name, n):
    serve = Serve()
    settle(serve, desire(wish))
    serve.restarts.clear()
    changed = {**wish, name: (wish[name][0], n)} if name in wish else wish
    assert all(isinstance(action, ScaleTo) for action in plan(desire(changed), serve.status(), OPTIONS))
    settle(serve, desire(changed))
    assert serve.restarts == []


@given(wishes, names)
def test_another_model_s_change_restarts_nobody_else(wish, newcomer):
    serve = Serve()
    settle(serve, desire(wish))
    serve.restarts.clear()
    settle(serve, desire({**wish, newcomer: (("--model", "z"), 1)}))
    assert set(serve.restarts) <= {newcomer}


def test_a_first_put_carries_what_serve_needs():
    [action] = plan([DesiredApplication(application=application("a"), target=2)], EMPTY, OPTIONS)
    assert isinstance(action, PutConfig)
    assert action.changed == ("a",)
    assert action.body["http_options"] == {"host": "127.0.0.1", "port": 8123}
    [app] = action.body["applications"]
    assert app["external_scaler_enabled"] is True
    assert "num_replicas" not in app["args"]
    assert app["deployments"][0]["num_replicas"] == 2
    assert app["deployments"][0]["max_surge_percent"] == 100


def test_zero_is_put_as_one_and_scaled_once_the_deployment_is_there():
    serve = Serve()
    desired = [DesiredApplication(application=application("a"), target=0)]
    [put] = plan(desired, serve.status(), OPTIONS)
    serve.apply(put)
    assert plan(desired, serve.status(), OPTIONS) == (), "a scale call during a build would be lost"
    serve.build()
    [scale] = plan(desired, serve.status(), OPTIONS)
    assert scale == ScaleTo(application="a", deployment="Engine", replicas=0, victims=("a-0",))


def test_a_scale_call_that_serve_lost_is_made_again():
    serve = Serve()
    desired = [DesiredApplication(application=application("a"), target=3)]
    serve.put(
        {"applications": [{**_config("a"), "deployments": [{**_config("a")["deployments"][0], "num_replicas": 1}]}]}
    )
    serve.build()
    first = plan(desired, serve.status(), OPTIONS)
    assert plan(desired, serve.status(), OPTIONS) == first != ()


def test_an_application_that_nobody_wants_is_removed_by_a_put_without_it():
    serve = Serve()
    settle(serve, desire({"a": (("--model", "x"), 1), "b": (("--model", "x"), 2)}))
    [action] = plan(desire({"b": (("--model", "x"), 2)}), serve.status(), OPTIONS)
    assert [app["name"] for app in action.body["applications"]] == ["b"]


def test_nothing_wanted_and_nothing_there_is_nothing_to_do():
    assert plan([], EMPTY, OPTIONS) == ()


def test_fields_that_serve_adds_are_no_difference():
    serve = Serve()
    desired = desire({"a": (("--model", "x"), 1)})
    settle(serve, desired)
    serve.configs["a"]["deployments"][0]["max_queued_requests"] = -1
    serve.configs["a"]["deployments"][0]["health_check_period_s"] = 2
    assert plan(desired, serve.status(), OPTIONS) == ()


def test_two_models_that_compile_to_one_name_are_told_apart_by_an_error():
    clash = [DesiredApplication(application=application("a--b--c", model=model), target=1) for model in ("a", "a--b")]
    with pytest.raises(ApplicationClashError, match=r"'a' and 'a--b'.*rename"):
        plan(clash, EMPTY, OPTIONS)


def test_a_refused_application_stays_at_its_last_good_configuration_or_out():
    good, bad, new = application("a"), application("a", ("--bad",)), application("b", ("--bad",))
    desired = [DesiredApplication(application=app, target=1) for app in (bad, new, application("c"))]
    kept = without_refused(desired, ["a", "b"], {"a": good})
    assert [(want.application.name, want.application.argv) for want in kept] == [
        ("a", good.argv),
        ("c", ("--model", "x")),
    ]


def _status(*replicas: tuple[str, str, str, float], other: tuple[str, ...] = ()) -> ServeStatus:
    def deployment(rows):
        return {"Engine": {"status": "HEALTHY", "target_num_replicas": len(rows), "replicas": rows}}

    rows = [
        {"replica_id": name, "state": state, "node_id": node, "node_ip": "", "pid": 1, "start_time_s": at}
        for name, state, node, at in replicas
    ]
    others = [
        {"replica_id": f"o{i}", "state": "RUNNING", "node_id": node, "node_ip": "", "pid": 1, "start_time_s": 0.0}
        for i, node in enumerate(other)
    ]
    return parse_status(
        {
            "applications": {
                "a": {"status": "RUNNING", "deployments": deployment(rows)},
                "z": {"status": "RUNNING", "deployments": deployment(others)},
            }
        }
    )


@pytest.mark.parametrize(
    ("replicas", "other", "keep", "victims"),
    [
        ([("old", "RUNNING", "n", 1.0), ("new", "RUNNING", "n", 2.0)], (), 1, ["new"]),
        ([("run", "RUNNING", "n", 1.0), ("start", "STARTING", "", 2.0)], (), 1, ["start"]),
        ([("head", "RUNNING", "head", 9.0), ("worker", "RUNNING", "w", 1.0)], (), 1, ["worker"]),
        ([("crowd", "RUNNING", "n", 9.0), ("alone", "RUNNING", "m", 1.0)], ("n",), 1, ["alone"]),
        ([("one", "RUNNING", "n", 1.0), ("gone", "STOPPING", "n", 2.0)], (), 1, []),
        ([("one", "RUNNING", "n", 1.0), ("two", "RUNNING", "n", 2.0)], (), 0, ["two", "one"]),
    ],
)
def test_victims_come_in_ray_s_order(replicas, other, keep, victims):
    status = _status(*replicas, other=other)
    assert list(predict_victims(status.applications["a"], keep, status, head_node_id="head")) == victims


def _config(name: str) -> dict:
    [action] = plan([DesiredApplication(application=application(name), target=1)], EMPTY, OPTIONS)
    return msgspec.to_builtins(action.body["applications"][0])
