"""What an earlier leader deployed is known again from its name and configuration."""

from decimal import Decimal

import pytest

from penstock.serve.applications import application_config
from penstock.serve.status import ObservedApplication
from penstock_operator.model.prepare import prepare
from penstock_operator.pool.adopt import adopted, ended_unseen
from penstock_operator.pool.groups import node_labels, worker_group
from penstock_operator.settings import RayOptions
from tests.unit.operator.pool.makers import accelerator, model

OPTIONS = RayOptions()
SPOT = [{"class": "nvidia-h100", "count": 2, "purchase": "Spot"}, {"class": "nvidia-h100", "count": 4}]


def applications(wanted, classes):
    item = prepare(
        wanted, classes, OPTIONS, labels=lambda *what: node_labels(worker_group(*what, OPTIONS)), name_taken=None
    )
    assert item.obstacle is None
    return item.applications


@pytest.mark.parametrize("spec", [{}, {"accelerator": None, "accelerators": SPOT}])
def test_an_application_is_known_again(spec):
    wanted = model("llama", **spec)
    classes = {"nvidia-h100": accelerator(), "nvidia": accelerator("nvidia")}
    for app in applications(wanted, classes):
        observed = ObservedApplication(
            name=app.name, status="RUNNING", message="", config=application_config(app, replicas=2)
        )
        assert adopted(observed, {"llama": "vllm", "lla": "vllm"}, classes) == app


def test_one_of_no_model_is_no_ones():
    observed = ObservedApplication(name="llama--h100--aaaa", status="RUNNING", message="", config=None)
    assert adopted(observed, {"other": "vllm"}, {}) is None


def test_one_whose_class_is_gone_costs_nothing_that_is_known():
    observed = ObservedApplication(name="llama--h100--aaaa", status="RUNNING", message="", config=None)
    app = adopted(observed, {"llama": "vllm"}, {})
    assert (app.accelerator_class, app.usd_per_hour) == ("h100", Decimal(0))


def test_replicas_that_ended_while_nobody_led_get_their_end():
    lost = {"r0": "llama--nvidia-h100--spot--aaaa", "r1": "foreign--h100--bbbb"}
    [end] = ended_unseen(lost, {"llama": "vllm"}, {"nvidia-h100": accelerator()}, now_s=9.0)
    assert (end.replica, end.kind, end.at_s, end.model, end.purchase) == ("r0", "End", 9.0, "llama", "Spot")
