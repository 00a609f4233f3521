"""What a model's scaling carries from one tick to the next."""

from decimal import Decimal

from penstock.api.model import Model
from penstock.local.brain import ModelState, first_target
from penstock.scaling.observe import LoadWindow
from tests.unit.serve.fakes import application

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
