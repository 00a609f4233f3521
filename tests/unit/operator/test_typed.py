"""Objects are validated once a generation, and one that cannot be read harms no other."""

from penstock.api import Model
from penstock_kube.resources import MODELS
from penstock_operator.typed import Invalid, Typed
from tests.unit.operator.objects import HandMirror, model


def typed():
    mirror = HandMirror(MODELS)
    return mirror, Typed(Model, mirror)


def test_a_change_of_status_or_labels_reads_nothing_anew():
    mirror, models = typed()
    mirror.put(model("a", "m"))
    first = models.get("a", "m")
    mirror.put({**model("a", "m", labels={"x": "y"}), "status": {"ready": "1/1"}})
    assert models.get("a", "m") is first
    mirror.put(model("a", "m", adapters=("sql",)))
    assert models.get("a", "m").spec.adapters[0].name == "sql"


def test_what_cannot_be_read_says_which_field_and_is_left_out_of_lists():
    mirror, models = typed()
    mirror.put(model("a", "fine"))
    mirror.put({**model("a", "broken"), "spec": {"preset": "llama-3.1-8b", "accelerator": "nvidia-h100:1", "new": 1}})
    broken = models.get("a", "broken")
    assert isinstance(broken, Invalid)
    assert "spec.new" in broken.message
    assert [m.name for m in models.all("a")] == ["fine"]


def test_an_object_that_is_gone_is_forgotten_and_one_of_its_name_read_anew():
    mirror, models = typed()
    mirror.put(model("a", "m"))
    first = models.get("a", "m")
    mirror.remove("a", "m")
    assert models.get("a", "m") is None
    mirror.put(model("a", "m"))
    assert models.get("a", "m") is not first
