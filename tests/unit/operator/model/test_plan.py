"""What is written of a Model, and what waits or is not written at all."""

import dataclasses
import datetime as dt

import pytest

from penstock.api.load import parse_resource
from penstock.scaling.snapshot import ReplicaPhase
from penstock_operator.model.plan import FINALIZER, Sight, Written, plan
from penstock_operator.model.status import duration, money
from penstock_operator.runtime.conditions import Condition
from tests.unit.operator.model.views import STEADY, condition, obj, replica, view

NOW = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(minutes=1)


def sight(given=None, **fields):
    given = obj() if given is None else given
    return Sight(obj=given, **{"model": parse_resource({**given, "status": None}), **fields})


def but(seen, **fields):
    """Return a sight with some of it replaced."""
    return dataclasses.replace(seen, **fields)


def steps(seen, written=None, *, now_s=100.0, now=NOW):
    return plan(seen, written, now=now, now_s=now_s, period_s=5.0)


def conditions(status):
    return {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}


def settled(**fields):
    """Return a sight whose status is as wanted, and what was written to make it so."""
    first = steps(sight(view=view(**fields))).status
    return sight(obj(status=first), view=view(**fields)), Written(first, 100.0)


def test_a_model_gets_the_finalizer_on_first_sight_and_no_status_before_its_pool_has_looked():
    made = steps(sight(obj(finalizers=())))
    assert made.add_finalizer
    assert (made.status, made.scale_to, made.again_after_s) == (None, None, None)


def test_the_status_shows_what_kubectl_prints():
    seen = view(
        2,
        1,
        replicas=(replica("a"), replica("b", ReplicaPhase.STARTING)),
        kv_usage=0.853,
        queue=9,
        ttft_p95_s=0.3124,
        usd_per_million_tokens=0.4172,
        idle_share=0.126,
    )
    status = steps(sight(view=seen)).status
    assert status["ready"] == "1/2"
    assert (status["replicas"], status["readyReplicas"], status["selector"]) == (2, 1, "penstock.dev/model=llama")
    assert status["load"] == {"kvCachePercent": 85, "queuedRequests": 9, "timeToFirstToken": "310ms"}
    assert status["cost"] == {"perMillionTokens": "0.42", "idlePercent": 13}
    assert status["why"] == "MinReplicas"
    assert status["variants"] == [
        {"name": "llama--cpu--abc", "replicas": 2, "readyReplicas": 1, "class": "cpu", "purchase": "OnDemand"}
    ]
    assert conditions(status)["Ready"] == ("True", "ReplicasReady")


def test_a_model_that_does_not_serve_says_why_in_the_column():
    seen = view(1, 0, conditions=(condition("Ready", False, "DoesNotFit", "too large"),))
    assert steps(sight(view=seen)).status["why"] == "DoesNotFit"


def test_an_unchanged_world_writes_nothing():
    seen, written = settled()
    assert steps(seen, written, now_s=1000.0, now=LATER).status is None
    assert steps(seen, None, now=LATER).status is None


def test_a_digit_that_changes_waits_for_its_time():
    seen, written = settled(kv_usage=0.5)
    seen = but(seen, view=view(kv_usage=0.51))
    early = steps(seen, written, now_s=102.0)
    assert (early.status, early.again_after_s) == (None, 3.0)
    assert steps(seen, written, now_s=105.0).status["load"]["kvCachePercent"] == 51


def test_an_empty_cache_is_shown_only_after_a_used_one():
    seen, written = settled()
    assert steps(but(seen, view=view(kv_usage=0.0)), written, now_s=1000.0).status is None
    seen, written = settled(kv_usage=0.5)
    assert steps(but(seen, view=view(kv_usage=0.0)), written, now_s=1000.0).status["load"]["kvCachePercent"] == 0


def test_a_digit_that_is_not_shown_is_not_written():
    seen, written = settled(kv_usage=0.5)
    assert steps(but(seen, view=view(kv_usage=0.504)), written, now_s=1000.0).status is None


@pytest.mark.parametrize(
    "change",
    [
        {"ready": 0},
        {"conditions": (condition("Ready", False, "Starting"),)},
        {"conditions": (*STEADY[:3], condition("Degraded", None, "Unseen"))},
        {"conditions": (condition("Degraded", True, "EngineDied"),)},
        {"generation": 2},
    ],
)
def test_a_flip_is_written_at_once(change):
    seen, written = settled()
    assert steps(but(seen, view=view(**change)), written, now_s=100.1).status is not None


def test_steps_of_a_start_are_not_written_one_by_one():
    def starting(reason):
        return view(1, 0, conditions=(condition("Ready", False, reason), condition("Progressing", True, reason)))

    first = steps(sight(view=starting("ClusterNotReady"))).status
    seen = sight(obj(status=first), view=starting("Starting"))
    assert steps(seen, Written(first, 100.0), now_s=101.0).again_after_s == 4.0


def test_a_hand_edit_of_the_status_is_reverted():
    seen, written = settled()
    forged = {**seen.obj["status"], "ready": "9/9"}
    assert steps(but(seen, obj=obj(status=forged)), written, now_s=100.1).status["ready"] == "1/1"


def test_what_others_add_to_the_status_is_left_alone():
    seen, written = settled()
    foreign = {"type": "Audited", "status": "True", "reason": "Seen", "message": "", "lastTransitionTime": "x"}
    status = {**seen.obj["status"], "conditions": [*seen.obj["status"]["conditions"], foreign]}
    assert steps(but(seen, obj=obj(status=status)), written, now_s=1000.0).status is None


def test_conditions_keep_their_time_until_they_flip():
    seen, written = settled()
    after = but(seen, view=view(1, 0, conditions=(condition("Ready", True, "ScaledToZero"),)))
    (ready,) = steps(after, written, now=LATER).status["conditions"]
    assert (ready["lastTransitionTime"], ready["observedGeneration"]) == ("2026-11-24T12:00:00Z", 1)


def test_a_status_is_dated_by_the_generation_that_the_pool_saw():
    status = steps(sight(obj(generation=4), view=view(generation=3))).status
    assert status["observedGeneration"] == 3
    assert {item["observedGeneration"] for item in status["conditions"]} == {3}


BOUNDS = {"minReplicas": 1, "maxReplicas": 4}


def test_the_brains_target_is_written_as_scale():
    assert steps(sight(obj(scaling=BOUNDS), view=view(3, 1))).scale_to == 3
    assert steps(sight(obj(scaling=BOUNDS, replicas=3), view=view(3, 1))).scale_to is None


def test_a_number_that_the_pool_has_yet_to_see_is_not_overwritten():
    by_hand = obj(scaling=BOUNDS, replicas=4, generation=2)
    assert steps(sight(by_hand, view=view(1, 1, generation=1))).scale_to is None
    assert steps(sight(by_hand, view=view(2, 1, generation=2))).scale_to == 2


def test_mode_external_is_left_to_others():
    given = obj(scaling={**BOUNDS, "mode": "External"}, replicas=2)
    assert steps(sight(given, view=view(3, 1))).scale_to is None


def test_a_deleted_model_waits_for_its_replicas():
    seen = sight(obj(deleting=True), view=view(0, 0))
    made = steps(seen)
    assert not made.remove_finalizer
    assert made.status is not None
    assert made.scale_to is None
    assert not steps(sight(obj(deleting=True))).remove_finalizer, "nobody has looked yet"
    assert steps(sight(obj(deleting=True), gone=True)).remove_finalizer


def test_a_deleted_model_gets_no_finalizer_any_more():
    made = steps(sight(obj(deleting=True, finalizers=("other/one",)), view=view()))
    assert (made.add_finalizer, made.status) == (False, None)


def test_the_scale_of_a_model_that_cannot_be_read_is_left_alone():
    assert steps(Sight(obj=obj(scaling=BOUNDS), model=None, view=view(3, 1))).scale_to is None


def test_conditions_of_others_parts_are_told_too():
    status = steps(sight(view=view(), extra=[Condition("WeightsReady", "False", "Downloading", "1 of 2 GB")])).status
    assert conditions(status)["WeightsReady"] == ("False", "Downloading")
    assert FINALIZER == "penstock.dev/drain"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0042, "4ms"), (0.0994, "99ms"), (0.312, "310ms"), (0.9949, "990ms"), (1.26, "1.3s"), (12.4, "12s")],
)
def test_latencies_have_two_digits(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("usd", "text"), [(0, "0.00"), (12.345, "12.35"), (0.4172, "0.42"), (0.00423, "0.0042")])
def test_money_has_cents_or_two_digits(usd, text):
    assert money(usd) == text
