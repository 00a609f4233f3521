"""Each replica's steps are told once, in order, with a cause, whatever Serve shows in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.replicas import Life, advance, cold_start_s, event
from penstock.cost.records import ReplicaEventKind
from penstock.scaling.snapshot import ReplicaPhase
from penstock.serve.status import ObservedApplication, ObservedReplica, ServeStatus
from tests.unit.serve.fakes import application

APP = application("tiny--cpu", model="tiny")
APPS = {APP.name: APP}
START, READY, DRAIN, END = ReplicaEventKind


def replica(name: str, state: str, **changes) -> ObservedReplica:
    values = {"node_id": "n", "node_ip": "10.0.0.1", "pid": 7, "started_s": 100.0}
    return ObservedReplica(id=name, state=state, **(values | changes))


def serve(*replicas: ObservedReplica, target: int = 1, **changes) -> ServeStatus:
    values = {
        "status": "RUNNING",
        "message": "",
        "config": {},
        "deployment": "Engine",
        "deployment_status": "HEALTHY",
        "target": target,
        "replicas": replicas,
    }
    app = ObservedApplication(name=APP.name, **(values | changes))
    return ServeStatus(started=True, applications={app.name: app})


def follow(*statuses: ServeStatus, **options):
    """Advance through statuses ten seconds apart; return the last lives and all steps."""
    lives: dict[str, Life] = {}
    steps = []
    for index, status in enumerate(statuses):
        lives, taken = advance(lives, status, APPS, 110.0 + 10 * index, **options)
        steps += taken
    return lives, [(step.life.id, step.kind, step.at_s, step.cause) for step in steps]


def test_a_replica_that_waits_for_a_machine_is_paid_from_when_it_has_a_process():
    lives, steps = follow(
        serve(replica("a", "STARTING", pid=None, started_s=105.0)),
        serve(replica("a", "STARTING", started_s=105.0)),
        serve(replica("a", "RUNNING", started_s=105.0)),
        waits=True,
    )
    assert steps == [("a", START, 120.0, "MinReplicas"), ("a", READY, 130.0, "Started")]
    assert (lives["a"].started_s, lives["a"].paid_s) == (105.0, 120.0)


def test_a_replica_that_found_its_machine_at_once_is_paid_from_the_beginning():
    _, steps = follow(serve(replica("a", "STARTING", started_s=109.0)), waits=True)
    assert steps == [("a", START, 109.0, "MinReplicas")]


def test_a_replica_that_is_taken_back_before_it_has_a_machine_was_never_paid_for():
    first, _ = advance({}, serve(replica("a", "STARTING", pid=None)), APPS, 110.0, waits=True)
    _, [end] = advance(first, serve(target=0), APPS, 120.0, waits=True)
    assert (end.kind, end.life.paid_s) == (END, None)


def test_a_life_from_start_to_end():
    lives, steps = follow(
        serve(replica("a", "STARTING", pid=None)),
        serve(replica("a", "RUNNING", address="10.0.0.1", port=30000)),
        serve(replica("a", "STOPPING"), target=0),
        serve(target=0),
        causes={"tiny": "CalmDown"},
    )
    assert steps == [
        ("a", START, 100.0, "CalmDown"),
        ("a", READY, 120.0, "Started"),
        ("a", DRAIN, 130.0, "CalmDown"),
        ("a", END, 140.0, "CalmDown"),
    ]
    assert lives == {}


def test_a_replica_seen_late_has_its_start_and_its_readiness():
    _, steps = follow(serve(replica("a", "RUNNING")))
    assert [(kind, at_s) for _, kind, at_s, _ in steps] == [(START, 100.0), (READY, 110.0)]


def test_one_that_vanishes_while_ready_has_died_and_its_successor_is_a_recovery():
    _, steps = follow(serve(replica("a", "RUNNING")), serve(replica("b", "STARTING")), filled=frozenset({APP.name}))
    assert ("a", END, 120.0, "EngineDied") in steps
    assert ("b", START, 100.0, "Recovery") in steps


def test_one_that_goes_with_its_application_was_taken_away_and_did_not_die():
    nothing = ServeStatus(started=True, applications={})
    ready = serve(replica("a", "RUNNING"))
    assert follow(ready, nothing, causes={"tiny": "Down"})[1][-1] == ("a", END, 120.0, "Down")
    assert follow(ready, nothing)[1][-1] == ("a", END, 120.0, "Deleted")


def test_one_that_vanishes_before_it_was_ready_never_started():
    _, steps = follow(serve(replica("a", "STARTING")), serve())
    assert steps[-1] == ("a", END, 120.0, "StartFailed")


def test_a_drain_that_nobody_asked_for_is_unhealthy():
    _, steps = follow(serve(replica("a", "RUNNING")), serve(replica("a", "STOPPING"), target=1))
    assert steps[-1][1:] == (DRAIN, 120.0, "Unhealthy")


def test_a_build_hides_replicas_and_ends_none():
    building = serve(deployment=None, deployment_status=None, target=None, status="DEPLOYING")
    running = serve(replica("a", "RUNNING", address="10.0.0.1", port=30000))
    lives, steps = follow(running, building, running)
    assert [kind for _, kind, _, _ in steps] == [START, READY]
    assert lives["a"].phase is ReplicaPhase.READY


def test_where_a_replica_listens_is_kept_while_serve_does_not_say():
    lives, _ = follow(
        serve(replica("a", "RUNNING", address="10.0.0.1", port=30000)), serve(replica("a", "STOPPING"), target=0)
    )
    assert (lives["a"].address, lives["a"].port) == ("10.0.0.1", 30000)


def test_on_one_machine_a_replica_is_addressed_where_it_listens():
    lives, _ = follow(serve(replica("a", "RUNNING", address="10.0.0.1", port=30000)), listen_host="127.0.0.1")
    assert lives["a"].address == "127.0.0.1"


def test_applications_that_are_nobody_s_are_left_alone():
    status = serve(replica("a", "RUNNING"))
    assert advance({}, status, {}, 1.0) == ({}, ())


states = st.sampled_from(["STARTING", "RUNNING", "UPDATING", "STOPPING"])
shown = st.dictionaries(st.sampled_from("abc"), states)


@given(st.lists(shown, max_size=8))
def test_no_step_is_told_twice_and_every_life_begins_with_its_start(history):
    lives: dict[str, Life] = {}
    told: dict[str, list[ReplicaEventKind]] = {}
    for index, states_now in enumerate([*history, {}]):
        status = serve(*(replica(name, state) for name, state in states_now.items()))
        lives, steps = advance(lives, status, APPS, 100.0 + index)
        for step in steps:
            told.setdefault(step.life.id, []).append(step.kind)
    assert lives == {}
    for kinds in told.values():
        lifetimes = "".join(kind.value[0] for kind in kinds).split("E")[:-1]
        for steps_told in lifetimes:
            assert steps_told in {"S", "SR", "SRD"}


def test_an_event_has_the_price_of_the_whole_replica():
    _, [step, *_] = advance({}, serve(replica("a", "RUNNING")), APPS, 110.0)
    record = event(step, "0.10")
    assert (record.replica, record.model, record.variant, record.usd_per_hour) == ("a", "tiny", "tiny--cpu", "0.10")


@pytest.mark.parametrize(("durations", "median"), [([], None), ([3.0], 3.0), ([9, 1, 2], 2), ([1, 2, 3, 10], 2.5)])
def test_a_cold_start_is_the_median_of_those_seen(durations, median):
    assert cold_start_s(durations) == median


def test_an_answer_that_knows_of_no_controller_ends_nobody():
    blind = ServeStatus(started=False, applications={})
    running = serve(replica("a", "RUNNING"))
    lives, steps = follow(serve(replica("a", "STARTING")), running, blind, running)
    assert set(lives) == {"a"}
    assert [step[1] for step in steps] == [START, READY]
