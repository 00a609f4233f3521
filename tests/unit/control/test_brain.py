"""What a model's scaling carries from one tick to the next."""

from decimal import Decimal

import msgspec

from penstock.api.model import Model
from penstock.control.brain import ModelState, as_it_runs, first_target
from penstock.control.replicas import Life
from penstock.engines.base import EngineLoad
from penstock.scaling.observe import LoadWindow
from penstock.scaling.snapshot import ReplicaPhase
from penstock.serve.applications import ServeOptions
from penstock.serve.plan import DesiredApplication, plan
from penstock.serve.status import ObservedApplication
from tests.unit.serve.fakes import Serve, application

NOW_S = 1_000.0


def model(**spec) -> Model:
    return Model.model_validate({"metadata": {"name": "tiny"}, "spec": {"preset": "tiny-random", **spec}})


def test_a_number_set_from_outside_is_taken_with_a_decision_that_says_so():
    wanted = model(accelerator="cpu:1", replicas=3, scaling={"mode": "External"})
    state = ModelState(target=1, since_s=NOW_S)
    assert state.think(wanted, LoadWindow(), [], [application("tiny")], NOW_S)
    assert (state.target, state.cause) == (3, "External")
    assert state.decision is not None
    assert (state.decision.target_after, state.decision.ruling) == (3, "external")
    assert not state.think(wanted, LoadWindow(), [], [application("tiny")], NOW_S + 1)


def test_a_number_set_from_outside_goes_no_further_than_the_placements_have_room():
    wanted = model(accelerators=[{"class": "cpu", "maxReplicas": 2}], replicas=5, scaling={"mode": "External"})
    assert first_target(wanted) == 2


def test_the_ceiling_counts_every_replica_at_the_dearest_price():
    wanted = model(
        accelerator="cpu:1", cost={"ceilingPerHour": "1"}, scaling={"minReplicas": 3, "maxReplicas": 9}, replicas=3
    )
    state = ModelState.first(wanted, NOW_S)
    placed = [application("a", usd_per_hour=Decimal("0.1")), application("b", usd_per_hour=Decimal("0.5"))]
    assert state.think(wanted, LoadWindow(), [], placed, NOW_S)
    assert (state.target, state.cause) == (2, "CostCeiling")


def test_slots_that_the_model_gives_its_engines_are_what_the_law_counts_with():
    wanted = model(
        accelerator="cpu:2",
        parallelism={"data": 2},
        engine={"args": ["--max-num-seqs", "4"]},
        scaling={"maxReplicas": 9},
    )
    state, window = ModelState(target=1, since_s=0.0), LoadWindow()
    busy = EngineLoad(
        kv_usage=0.1, running=8, waiting=4, waiting_for_capacity=4, preemptions=0,
        prompt_tokens=0, generation_tokens=0, prefix_queries=0, prefix_hits=0,
    )  # fmt: skip
    for second in range(4):
        window.engine("a", busy, NOW_S + second)
        state.think(wanted, window, [life("a")], [application("tiny")], NOW_S + second)
    assert state.decision is not None
    [bound] = [bound for bound in state.decision.bounds if bound.name == "sequences"]
    assert bound.why == "12 requests want to run at once and a replica runs 8"
    assert (state.target, state.cause) == (2, "SequenceBound")


def life(name: str) -> Life:
    return Life(
        id=name, model="tiny", variant="tiny", phase=ReplicaPhase.READY, since_s=0.0, started_s=0.0,
        application=application("tiny"),
    )  # fmt: skip


def running(target: int) -> Serve:
    serve, options = Serve(), ServeOptions(http_host="127.0.0.1")
    for _ in range(2):
        for action in plan([DesiredApplication(application=application("t"), target=target)], serve.status(), options):
            serve.apply(action)
        serve.build()
    return serve


def test_a_model_edited_into_something_impossible_keeps_its_replicas_and_its_sleep():
    for target in (0, 1, 3):
        [kept] = as_it_runs([application("t")], running(target).status())
        assert kept.target == target


def test_a_model_edited_into_something_impossible_while_serve_builds_it_keeps_its_number():
    serve = running(3)
    serve.building.add("t")
    [kept] = as_it_runs([application("t")], serve.status())
    assert kept.target == 3


def test_what_serve_is_deleting_or_never_had_does_not_come_back():
    observed = running(1).status()
    deleting = msgspec.structs.replace(observed.applications["t"], status="DELETING")
    observed = msgspec.structs.replace(observed, applications={"t": deleting})
    assert as_it_runs([application("t"), application("u")], observed) == []


def test_a_failed_start_is_remembered_until_one_serves_or_the_file_is_mended():
    state, tried = ModelState(target=1, since_s=NOW_S), application("t")
    failed = ObservedApplication(
        name="t",
        status="DEPLOY_FAILED",
        message="ValueError: no such flag",
        config={},
        deployment="Engine",
        deployment_status="DEPLOY_FAILED",
        target=1,
    )
    assert state.note_failure([tried], [], serves=False) is None
    reason = state.note_failure([tried], [failed], serves=False)
    assert reason is not None
    again = msgspec.structs.replace(tried, attempt=1)
    assert state.note_failure([again], [], serves=False) == reason
    mended = msgspec.structs.replace(tried, argv=("--better",))
    assert state.note_failure([mended], [], serves=False) is None
    state.note_failure([tried], [failed], serves=False)
    assert state.note_failure([tried], [], serves=True) is None
