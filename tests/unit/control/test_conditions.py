"""Conditions say what holds, why, and what to do, and keep the time at which they turned."""

import pytest

from penstock.control.conditions import Obstacle, judge, restate
from penstock.control.replicas import Life
from penstock.control.status import ConditionType
from penstock.scaling.decision import Decision, Direction
from penstock.scaling.snapshot import ReplicaPhase
from penstock.serve.status import ObservedApplication
from tests.unit.serve.fakes import application

FAILED = ObservedApplication(
    name="t",
    status="DEPLOY_FAILED",
    message="failed 3 times\nTraceback\nValueError: unrecognized arguments: --nope",
    config={},
    deployment="Engine",
    deployment_status="DEPLOY_FAILED",
    target=1,
)
MISSING = Obstacle(reason="WeightsMissing", message="spec.source: there is no /x; check the path")
MAKING = Obstacle(reason="MakingWeights", message="being made", passing=True)
TOO_LARGE = Obstacle(reason="DoesNotFit", message="no room; use a larger class")


def life(name: str, phase: ReplicaPhase) -> Life:
    return Life(id=name, model="t", variant="t", phase=phase, since_s=0.0, started_s=0.0, application=application("t"))


READY, STARTING, DRAINING = (
    life(p.value, p) for p in (ReplicaPhase.READY, ReplicaPhase.STARTING, ReplicaPhase.DRAINING)
)


def said(target, lives, *, applications=(), obstacle=None, died=None, decision=None):
    statements = judge(target, lives, applications, obstacle, died=died, decision=decision)
    assert {statement.type for statement in statements} == set(ConditionType)
    return {statement.type.value: (statement.status, statement.reason) for statement in statements}


@pytest.mark.parametrize(
    ("target", "lives", "ready", "progressing"),
    [
        (1, [], (False, "Starting"), (True, "Deploying")),
        (1, [STARTING], (False, "Starting"), (True, "Starting")),
        (1, [READY], (True, "ReplicasReady"), (False, "Settled")),
        (2, [READY, STARTING], (True, "ReplicasReady"), (True, "Starting")),
        (1, [READY, DRAINING], (True, "ReplicasReady"), (True, "Draining")),
        (0, [], (True, "ScaledToZero"), (False, "Settled")),
    ],
)
def test_a_model_in_good_order_says_how_far_it_is(target, lives, ready, progressing):
    told = said(target, lives)
    assert (told["Ready"], told["Progressing"]) == (ready, progressing)
    assert (told["Fits"], told["Degraded"]) == ((True, "Fits"), (False, "AsWanted"))


@pytest.mark.parametrize("obstacle", [MISSING, TOO_LARGE])
def test_an_obstacle_is_the_reason_why_a_model_is_neither_ready_nor_well(obstacle):
    told = said(1, [], obstacle=obstacle)
    assert told["Ready"] == (False, obstacle.reason)
    assert told["Degraded"] == (True, obstacle.reason)
    assert told["Progressing"] == (False, "Settled")
    assert told["Fits"][0] is (None if obstacle is MISSING else False)


def test_an_obstacle_that_goes_away_by_itself_is_progress():
    told = said(1, [], obstacle=MAKING)
    assert told["Ready"] == (False, "MakingWeights")
    assert told["Progressing"] == (True, "MakingWeights")
    assert told["Degraded"] == (False, "AsWanted")


def test_a_model_that_serves_stays_ready_when_an_edit_makes_it_impossible():
    told = said(1, [READY], obstacle=MISSING)
    assert told["Ready"] == (True, "ReplicasReady")
    assert told["Degraded"] == (True, "WeightsMissing")


def test_an_engine_that_does_not_start_is_no_progress():
    told = said(1, [], applications=[FAILED])
    assert told["Ready"] == (False, "EngineFailed")
    assert told["Progressing"] == (False, "Settled")
    assert told["Degraded"] == (True, "EngineFailed")


def test_a_death_is_told_until_its_place_is_filled():
    assert said(2, [READY], died="replica x died")["Degraded"] == (True, "EngineDied")
    assert said(1, [READY], died="replica x died")["Degraded"] == (False, "AsWanted")


def test_a_failed_engine_s_own_words_and_the_remedy_are_told():
    degraded = next(s for s in judge(1, [], [FAILED], None) if s.type is ConditionType.DEGRADED)
    assert degraded.message.startswith("ValueError: unrecognized arguments: --nope")
    assert "mend the model's file" in degraded.message


def test_a_condition_keeps_its_time_until_its_status_turns():
    first = restate(judge(1, [], [], MAKING), (), 10.0)
    second = restate(judge(1, [STARTING], [], None), first, 20.0)
    third = restate(judge(1, [READY], [], None), second, 30.0)
    since = [{c.type: c.since_s for c in conditions}[ConditionType.READY] for conditions in (first, second, third)]
    assert since == [10.0, 10.0, 30.0]
    reasons = [{c.type: c.reason for c in conditions}[ConditionType.READY] for conditions in (first, second, third)]
    assert reasons == ["MakingWeights", "Starting", "ReplicasReady"]


@pytest.mark.parametrize(
    ("ruling", "ready"),
    [("ceiling", (False, "CostCeiling")), ("external", (False, "NoReplicas")), ("idle", (True, "ScaledToZero"))],
)
def test_only_what_a_request_wakes_is_called_scaled_to_zero(ruling, ready):
    decision = Decision(
        model="t", at_s=0.0, target_before=0, target_after=0, direction=Direction.HOLD, ruling=ruling, reason="Why."
    )
    assert said(0, [], decision=decision)["Ready"] == ready


def test_the_reason_of_a_failed_start_stays_while_it_is_tried_once_more():
    statements = judge(1, [STARTING], (), None, failed="unrecognized arguments: --nope")
    degraded = next(said for said in statements if said.type is ConditionType.DEGRADED)
    assert (degraded.status, degraded.reason) == (True, "EngineFailed")
    assert degraded.message == "unrecognized arguments: --nope; it is being tried once more"
    statements = judge(1, [READY], (), None, failed="unrecognized arguments: --nope")
    assert not next(said for said in statements if said.type is ConditionType.DEGRADED).status
