"""Operators die or freeze, the control plane itself is away: nothing is lost, and nothing is done twice."""

import datetime as dt
import time

import pytest

from penstock.serve.status import parse_status
from penstock_kube.resources import ENDPOINT_SLICES, MODELS
from tests.support.serve_api import Behaviour

pytestmark = pytest.mark.controlplane

EXTERNAL = {"mode": "External"}


@pytest.fixture
def cluster(two_operators):
    return two_operators


@pytest.fixture(autouse=True)
def whole(cluster):
    """Both operators run before each test, and have logged no error after it."""
    for operator in cluster.operators.values():
        if operator.process is None:
            operator.start()
    cluster.until(lambda: cluster.leader.process is not None and is_alive(cluster.leader))
    yield
    for operator in cluster.operators.values():
        operator.thaw()
        assert operator.bugs() == []


def is_alive(operator):
    return operator.process.poll() is None


def serve_status(cluster, namespace):
    return cluster.serve.run(lambda: parse_status(cluster.serve.serve(namespace).details(time.time())))


def replica_ids(cluster, namespace):
    return {r.id for app in serve_status(cluster, namespace).applications.values() for r in app.replicas}


def test_a_killed_leader_is_followed_by_one_that_keeps_targets_and_replicas(cluster):
    space = cluster.namespace("kill-settled")
    cluster.model(space, "one", replicas=2, scaling=EXTERNAL)
    cluster.model(space, "two")
    cluster.ready(space, "one", 2)
    cluster.ready(space, "two")
    before, puts, served = replica_ids(cluster, space), cluster.puts(space), cluster.endpoints(space)
    first = cluster.leader
    first.kill()
    cluster.until(lambda: cluster.leader is not first)
    second = cluster.leader
    cluster.model(space, "two", replicas=3, scaling=EXTERNAL)
    cluster.ready(space, "two", 3)
    assert before <= replica_ids(cluster, space)
    assert served.items() <= cluster.endpoints(space).items()
    assert cluster.puts(space) == puts
    assert cluster.plane.call("GET", MODELS.path(space, "one"))["spec"]["replicas"] == 2
    assert is_alive(second)


def test_a_leader_killed_in_the_middle_of_a_step_leaves_one_that_can_be_taken_up(cluster):
    space = cluster.namespace("kill-midway")
    cluster.model(space, "first")
    cluster.ready(space, "first")
    cluster.serve.hang(space)
    puts, asked = cluster.puts(space), dict(cluster.serve.calls)
    cluster.model(space, "second")
    cluster.until(lambda: cluster.serve.calls["GET"] > asked["GET"])  # and it waits there for an answer
    dead = cluster.leader
    dead.kill()
    cluster.serve.mend(space)
    cluster.ready(space, "second")
    cluster.ready(space, "first")
    assert cluster.leader is not dead
    assert cluster.puts(space) == puts + 1
    assert len(replica_ids(cluster, space)) == 2
    names = [item["metadata"]["name"] for item in cluster.all(ENDPOINT_SLICES, space)]
    assert len(names) == len(set(names)) == 2


def test_a_leader_that_wakes_up_late_writes_nothing_any_more(cluster):
    space = cluster.namespace("frozen")
    cluster.model(space, "calm")
    cluster.ready(space, "calm")
    old, new = cluster.leader, cluster.standby
    old.freeze()
    cluster.until(lambda: cluster.leader is new)
    cluster.model(space, "calm", replicas=2, scaling=EXTERNAL)
    cluster.ready(space, "calm", 2)
    woken = dt.datetime.now(dt.UTC).isoformat()
    old.thaw()
    cluster.until(lambda: old.restarts > 0)
    ended = dt.datetime.now(dt.UTC).isoformat()
    assert [write for at, write in cluster.writes(old.name) if woken < at < ended] == []
    cluster.model(space, "calm", replicas=1, scaling=EXTERNAL)
    cluster.ready(space, "calm", 1)


def test_an_api_server_that_restarts_is_met_again(cluster):
    space = cluster.namespace("restarted")
    cluster.model(space, "steady")
    cluster.ready(space, "steady")
    before, puts = replica_ids(cluster, space), cluster.puts(space)
    cluster.plane.restart_apiserver(kill=True)
    cluster.model(space, "steady", replicas=2, scaling=EXTERNAL)
    cluster.ready(space, "steady", 2)
    assert before < replica_ids(cluster, space)
    assert cluster.puts(space) == puts


def test_a_frozen_etcd_costs_time_only(cluster):
    space = cluster.namespace("etcd")
    cluster.model(space, "patient")
    cluster.ready(space, "patient")
    before, puts, served = replica_ids(cluster, space), cluster.puts(space), cluster.endpoints(space)
    cluster.plane.etcd.pause()
    try:
        time.sleep(8)  # longer than the lease lasts
        assert replica_ids(cluster, space) == before
    finally:
        cluster.plane.etcd.resume()
    cluster.until(lambda: cluster.leader.is_ready())  # noqa: PLW0108 - who leads changes
    cluster.model(space, "patient", replicas=2, scaling=EXTERNAL)
    cluster.ready(space, "patient", 2)
    assert before < replica_ids(cluster, space)
    assert cluster.puts(space) == puts
    assert served.items() <= cluster.endpoints(space).items()


def test_changes_that_no_watch_can_tell_of_any_more_are_found(cluster):
    space = cluster.namespace("expired")
    cluster.model(space, "stays")
    cluster.model(space, "leaves")
    cluster.ready(space, "stays")
    cluster.ready(space, "leaves")
    for operator in cluster.operators.values():
        operator.freeze()
    try:
        cluster.model(space, "stays", replicas=2, scaling=EXTERNAL)
        cluster.delete(MODELS, space, "leaves")
        cluster.plane.compact()
        cluster.plane.restart_apiserver(kill=True)
    finally:
        for operator in cluster.operators.values():
            operator.thaw()
    cluster.ready(space, "stays", 2)
    cluster.until(lambda: cluster.get(MODELS, space, "leaves") is None)
    assert {life.split("--")[0] for life in serve_status(cluster, space).applications} == {"stays"}


def test_a_model_deleted_while_it_scales_leaves_nothing(cluster):
    space = cluster.namespace("deleted")
    cluster.serve.run(lambda: cluster.serve.behave(space, Behaviour(start_s=3.0, drain_s=0.5)))
    cluster.model(space, "kept")
    cluster.model(space, "gone", replicas=3, scaling=EXTERNAL)
    cluster.until(lambda: len(replica_ids(cluster, space)) == 4)
    cluster.delete(MODELS, space, "gone")
    cluster.until(lambda: cluster.get(MODELS, space, "gone") is None)
    cluster.ready(space, "kept")
    assert len(replica_ids(cluster, space)) == 1
    cluster.until(lambda: len(cluster.endpoints(space)) == 1)
