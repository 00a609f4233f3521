"""The played Serve, read by the client that reads the real one."""

import pytest

from penstock.serve.status import parse_status
from penstock_loadtest.controlplane.simulated_serve import Behaviour, RefusedError, SimulatedServe


def app(name, replicas=1, revision="1"):
    return {
        "name": name,
        "import_path": "engine:build",
        "route_prefix": f"/{name}",
        "external_scaler_enabled": True,
        "args": {"argv": [], "revision": revision},
        "deployments": [{"name": "Engine", "num_replicas": replicas}],
    }


class Clocked:
    """A simulated Serve with its clock."""

    def __init__(self, **behaviour):
        self.now_s = 1000.0
        self.gone = []
        self.behaviour = Behaviour(**behaviour)
        self.ports = iter(range(30_000, 40_000))
        self.serve = SimulatedServe(
            self.behaviour, lambda *_: ("192.0.2.7", next(self.ports)), self.gone.append, "192.0.2.7"
        )

    def put(self, *apps):
        self.serve.put({"applications": list(apps)}, self.now_s)

    def scale(self, name, count):
        self.serve.scale(name, "Engine", {"target_num_replicas": count}, self.now_s)

    def after(self, seconds):
        self.now_s += seconds
        return parse_status(self.serve.details(self.now_s))

    def states(self, name, seconds=0.0):
        return sorted(replica.state for replica in self.after(seconds).applications[name].replicas)


def test_nothing_runs_before_the_first_put():
    status = Clocked().after(0)
    assert not status.started
    assert status.applications == {}


def test_an_application_is_built_then_started_then_listed():
    ray = Clocked(build_s=1.0, start_s=5.0)
    ray.put(app("a", 2))
    building = ray.after(0.5).applications["a"]
    assert (building.status, building.deployment) == ("DEPLOYING", None)
    assert ray.states("a", 1.0) == ["STARTING", "STARTING"]
    running = ray.after(5.0).applications["a"]
    assert (running.status, running.deployment_status, running.target) == ("RUNNING", "HEALTHY", 2)
    assert len({(replica.address, replica.port) for replica in running.replicas}) == 2


def test_what_a_put_leaves_out_drains_and_goes():
    ray = Clocked(drain_s=10.0)
    ray.put(app("a"), app("b"))
    ray.after(0)
    ray.put(app("b"))
    status = ray.after(0)
    assert status.applications["a"].status == "DELETING"
    assert [replica.state for replica in status.applications["a"].replicas] == ["STOPPING"]
    assert set(ray.after(10.0).applications) == {"b"}
    assert len(ray.gone) == 1


def test_an_identical_put_keeps_the_scaled_count_and_any_other_resets_it():
    ray = Clocked()
    ray.put(app("a"))
    ray.scale("a", 3)
    ray.put(app("a"))
    assert ray.after(0).applications["a"].target == 3
    changed = app("a")
    changed["deployments"][0]["max_ongoing_requests"] = 7
    ray.put(changed)
    assert ray.after(0).applications["a"].target == 1


def test_a_scale_call_during_a_build_is_answered_and_lost():
    ray = Clocked(build_s=1.0)
    ray.put(app("a"))
    ray.scale("a", 4)
    assert ray.after(2.0).applications["a"].target == 1


def test_a_new_version_starts_beside_the_old_one():
    ray = Clocked(start_s=5.0, drain_s=3.0)
    ray.put(app("a"))
    (old,) = ray.after(0).applications["a"].replicas
    ray.after(5.0)
    ray.put(app("a", revision="2"))
    assert ray.states("a") == ["RUNNING", "STARTING"]
    assert ray.states("a", 5.0) == ["RUNNING", "STOPPING"]
    (new,) = ray.after(3.0).applications["a"].replicas
    assert new.id != old.id


def test_those_that_do_not_run_are_stopped_before_those_that_do():
    ray = Clocked(start_s=5.0, drain_s=60.0)
    ray.put(app("a"))
    ray.after(0)
    (first,) = ray.after(5.0).applications["a"].replicas
    ray.scale("a", 2)
    ray.after(0)
    ray.scale("a", 1)
    states = {replica.id: replica.state for replica in ray.after(0).applications["a"].replicas}
    assert states.pop(first.id) == "RUNNING"
    assert set(states.values()) == {"STOPPING"}


def test_a_killed_replica_is_replaced():
    ray = Clocked()
    ray.put(app("a"))
    (first,) = ray.after(0).applications["a"].replicas
    ray.serve.kill_replica(first.id, ray.now_s)
    (second,) = ray.after(0).applications["a"].replicas
    assert second.id != first.id
    assert ray.gone == [first.id]


def test_three_failed_starts_end_in_deploy_failed_until_the_next_version():
    ray = Clocked(start_s=1.0, failing={"a*": "OSError: no such model"})
    ray.put(app("a"))
    for _ in range(4):
        failed = ray.after(1.0).applications["a"]
    assert failed.has_failed
    assert failed.message == "OSError: no such model"
    ray.behaviour.failing.clear()
    ray.put(app("a", revision="2"))
    ray.after(0)
    assert ray.states("a", 1.0) == ["RUNNING"]


@pytest.mark.parametrize(
    ("applications", "words"),
    [
        ([app("a", 0)], "greater than 0"),
        ([app("a"), app("a")], "same name"),
        ([app("bad")], "no such engine"),
    ],
)
def test_refused_puts_change_nothing(applications, words):
    ray = Clocked(refused={"bad": "no such engine"})
    ray.put(app("good"))
    with pytest.raises(RefusedError, match=words):
        ray.put(*applications)
    assert set(ray.after(0).applications) == {"good"}


def test_replicas_starve_until_there_is_room_and_drain_until_streams_end():
    ray = Clocked(starving={"a"})
    ray.put(app("a"))
    assert ray.states("a", 600.0) == ["STARTING"]
    ray.behaviour.starving.clear()
    assert ray.states("a") == ["RUNNING"]
    ray.behaviour.draining.add("a")
    ray.scale("a", 0)
    assert ray.states("a", 600.0) == ["STOPPING"]
    ray.behaviour.draining.clear()
    assert ray.states("a") == []


def test_a_scale_call_for_nothing_is_refused():
    ray = Clocked()
    with pytest.raises(RefusedError, match="503"):
        ray.scale("a", 1)
    ray.put(app("a"))
    with pytest.raises(RefusedError, match="404"):
        ray.scale("b", 1)
    with pytest.raises(RefusedError, match="400"):
        ray.scale("a", "many")
