"""The catalog's classes follow the catalog, field by field, until somebody edits them."""

import copy

import pytest

from penstock.api import AcceleratorClass, parse_resource
from penstock.catalog import accelerator_classes
from penstock_operator.accelerator.catalog import WRITTEN, new_object, newer_figures

SPEC = {
    "vendor": "nvidia",
    "memory": "80Gi",
    "price": {"onDemandPerHour": "2.69", "spotPerHour": "1.60", "source": "A", "date": "2026-11-09"},
}


def entry(**changes):
    return AcceleratorClass.model_validate({"metadata": {"name": "nvidia-h100"}, "spec": SPEC | changes})


CHEAPER = entry(price={"onDemandPerHour": "2.19", "source": "B"}, memoryBandwidth="3350G")


def stored(**edits):
    """Return the class as an API server has it: with defaults, and with what somebody edited; None removes a field."""
    obj = copy.deepcopy(new_object(entry()))
    obj["metadata"]["resourceVersion"] = "7"
    obj["spec"].setdefault("resourceName", "nvidia.com/gpu")
    obj["spec"]["price"]["currency"] = "USD"
    obj["spec"] = {key: value for key, value in (obj["spec"] | edits).items() if value is not None}
    return obj


def merged(target, patch):
    """Merge as RFC 7396 says."""
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key) or {}, value) if isinstance(value, dict) else value
    return result


def updated_object(obj, release):
    """Return the object as the patch leaves it, or None when nothing is written."""
    patch = newer_figures(obj, release)
    return None if patch is None else merged(obj, patch)


@pytest.mark.parametrize("each", accelerator_classes(), ids=lambda each: each.name)
def test_every_class_reads_back_as_the_catalog_has_it(each):
    body = {"apiVersion": "penstock.dev/v1alpha1", "kind": "AcceleratorClass", **new_object(each)}
    assert parse_resource(body).spec == each.spec


def test_the_same_catalog_writes_nothing():
    assert updated_object(stored(), entry()) is None


def test_a_class_that_nobody_edited_follows_the_catalog():
    updated = updated_object(stored(), CHEAPER)
    assert updated["spec"]["price"] == {"onDemandPerHour": "2.19", "source": "B"}, "nothing of the old price is left"
    assert updated["spec"]["memoryBandwidth"] == "3350G"
    assert newer_figures(stored(), CHEAPER)["metadata"]["resourceVersion"] == "7", "only this version is replaced"
    assert updated_object(updated, CHEAPER) is None


@pytest.mark.parametrize(
    "price",
    [{"onDemandPerHour": "3.10"}, SPEC["price"] | {"spotPerHour": "1.50"}, None],
    ids=["own", "part", "removed"],
)
def test_an_edited_price_stays_and_other_fields_follow(price):
    updated = updated_object(stored(price=price), CHEAPER)
    assert updated["spec"].get("price") == price
    assert updated["spec"]["memoryBandwidth"] == "3350G"


def test_what_was_added_stays_beside_new_prices():
    updated = updated_object(stored(nodeSelector={"pool": "h100"}), CHEAPER)
    assert updated["spec"]["nodeSelector"] == {"pool": "h100"}
    assert updated["spec"]["price"]["onDemandPerHour"] == "2.19"


def test_an_edit_outlives_many_releases():
    edited = stored(price={"onDemandPerHour": "3.10"})
    for bandwidth, price in (("3350G", "2.19"), ("3351G", "2.09"), ("3352G", "1.99")):
        release = entry(memoryBandwidth=bandwidth, price={"onDemandPerHour": price})
        edited = updated_object(edited, release)
        assert edited["spec"]["price"] == {"onDemandPerHour": "3.10"}
        assert edited["spec"]["memoryBandwidth"] == bandwidth


def test_a_class_of_somebody_else_is_never_touched():
    obj = stored()
    del obj["metadata"]["annotations"]
    assert updated_object(obj, CHEAPER) is None


@pytest.mark.parametrize("written", ["not json", '{"vendor": 1}'])
def test_an_annotation_that_cannot_be_read_means_hands_off(written):
    obj = stored()
    obj["metadata"]["annotations"][WRITTEN] = written
    assert updated_object(obj, CHEAPER) is None
