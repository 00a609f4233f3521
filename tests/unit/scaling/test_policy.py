"""From a Model's words to a policy."""

from decimal import Decimal

import pytest

from penstock.api.model import Model
from penstock.scaling.policy import ScalingPolicy, prices_of


def model(**spec):
    return Model.model_validate(
        {
            "apiVersion": "penstock.dev/v1alpha1",
            "kind": "Model",
            "metadata": {"name": "tiny"},
            "spec": {"source": "hf://org/tiny", "accelerator": "cpu:1"} | spec,
        }
    )


def test_every_field_of_a_model_arrives():
    policy = ScalingPolicy.from_model(
        model(
            replicas=2,
            scaling={
                "minReplicas": 2,
                "maxReplicas": 5,
                "targetPressure": "0.7",
                "scaleDownAfterSeconds": 90,
                "panicWindowSeconds": 8,
            },
            slo={"timeToFirstTokenMilliseconds": 500, "timePerOutputTokenMilliseconds": 50},
            cost={"ceilingPerHour": "6", "atCeiling": "Warn"},
        )
    )
    assert (policy.min_replicas, policy.max_replicas, policy.target_pressure) == (2, 5, 0.7)
    assert (policy.scale_down_after_s, policy.scale_to_zero_after_s, policy.panic_window_s) == (90, None, 8)
    assert (policy.ttft_slo_s, policy.tpot_slo_s, policy.hold_at_ceiling) == (0.5, 0.05, False)


def test_a_minimum_of_zero_lets_an_idle_model_go():
    policy = ScalingPolicy.from_model(model(scaling={"minReplicas": 0, "maxReplicas": 2}))
    assert policy.scale_to_zero_after_s is not None


def test_prices_carry_the_ceiling():
    prices = prices_of(model(cost={"ceilingPerHour": "6.5"}), Decimal("2.99"))
    assert (prices.usd_per_replica_hour, prices.ceiling_usd_per_hour) == ("2.99", "6.5")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_replicas": 3, "max_replicas": 2}, "min_replicas is 3 and max_replicas 2"),
        ({"target_pressure": 1.5}, "target_pressure is 1.5"),
        ({"disabled_bounds": frozenset({"vk"})}, r"\['vk'\]: choose from \['kv'"),
    ],
)
def test_a_policy_out_of_range_is_refused_with_the_remedy(fields, message):
    with pytest.raises(ValueError, match=message):
        ScalingPolicy(**fields)


def on_two_classes(first, second, **scaling):
    placements = [{"class": "a", **first}, {"class": "b", **second}]
    return ScalingPolicy.from_model(model(accelerator=None, accelerators=placements, scaling=scaling))


@pytest.mark.parametrize(
    ("first", "second", "scaling", "bounds"),
    [
        ({"maxReplicas": 2}, {"maxReplicas": 1}, {"maxReplicas": 9}, (1, 3)),
        ({"maxReplicas": 2}, {}, {"maxReplicas": 9}, (1, 9)),
        ({"minReplicas": 2}, {"minReplicas": 1}, {"maxReplicas": 9}, (3, 9)),
        ({"minReplicas": 2}, {"minReplicas": 2}, {"maxReplicas": 3}, (4, 4)),
    ],
)
def test_a_target_is_never_one_that_the_placements_cannot_hold(first, second, scaling, bounds):
    policy = on_two_classes(first, second, **scaling)
    assert (policy.min_replicas, policy.max_replicas) == bounds


def test_a_placement_that_keeps_a_replica_keeps_the_model_from_zero():
    policy = on_two_classes({"minReplicas": 1}, {}, minReplicas=0, maxReplicas=2)
    assert (policy.min_replicas, policy.scale_to_zero_after_s) == (1, None)
