"""Accelerator classes as pools see them: the cluster's, and the catalog's where an operator may not bring them in."""

from __future__ import annotations

from decimal import Decimal

from penstock.api.accelerator_class import AcceleratorClass, Purchase
from penstock.catalog import accelerator_classes
from penstock_kube.resources import ACCELERATOR_CLASSES, Object
from penstock_operator.pool.shared import Classes
from penstock_operator.typed import Typed
from tests.unit.operator.objects import API_VERSION, HandMirror

SPEC = {"vendor": "nvidia", "memory": "80Gi", "price": {"onDemandPerHour": "1.23"}}


def held(name: str) -> Object:
    return {"apiVersion": API_VERSION, "kind": "AcceleratorClass", "metadata": {"name": name}, "spec": SPEC}


def test_a_class_of_the_cluster_goes_before_the_built_in_one_of_its_name():
    mirror = HandMirror(ACCELERATOR_CLASSES)
    classes = Classes(Typed(AcceleratorClass, mirror), accelerator_classes())
    listed = classes.all()["nvidia-h100"].usd_per_hour(Purchase.ON_DEMAND)
    mirror.put(held("nvidia-h100"))
    assert classes.all()["nvidia-h100"].usd_per_hour(Purchase.ON_DEMAND) == Decimal("1.23")
    mirror.remove("", "nvidia-h100")
    assert classes.all()["nvidia-h100"].usd_per_hour(Purchase.ON_DEMAND) == listed != Decimal("1.23")


def test_without_built_in_classes_a_class_that_was_deleted_is_gone():
    mirror = HandMirror(ACCELERATOR_CLASSES)
    classes = Classes(Typed(AcceleratorClass, mirror))
    mirror.put(held("mine"))
    assert set(classes.all()) == {"mine"}
    mirror.remove("", "mine")
    assert set(classes.all()) == set()
