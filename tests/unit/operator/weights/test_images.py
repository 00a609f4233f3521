"""Which images are pulled ahead, and onto which nodes."""

from penstock.api.load import parse_resource
from penstock_operator.settings import RayOptions
from penstock_operator.weights.images import wanted_pulls
from tests.unit.operator.weights.test_plan import model

OPTIONS = RayOptions(image="penstock-engine:1", image_pull_secrets=("registry",))


def accelerator(name="nvidia-h100", **spec):
    body = {"vendor": "nvidia", "memory": "80Gi", "nodeSelector": {"gpu": "h100"}, **spec}
    head = {"apiVersion": "penstock.dev/v1alpha1", "kind": "AcceleratorClass", "metadata": {"name": name}}
    return {name: parse_resource({**head, "spec": body})}


def pulls(*models, classes=None):
    return list(wanted_pulls(models, classes or accelerator(), OPTIONS, "penstock").values())


def test_one_daemon_set_pulls_for_all_models_of_a_class_and_image():
    (body,) = pulls(model("a"), model("b"))
    assert body["metadata"]["namespace"] == "penstock"
    pod = body["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"gpu": "h100"}
    assert pod["containers"][0]["image"] == "penstock-engine:1"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert body["spec"]["selector"]["matchLabels"].items() <= body["spec"]["template"]["metadata"]["labels"].items()


def test_another_image_is_another_daemon_set():
    names = {body["metadata"]["name"] for body in pulls(model("a"), model("b", engine={"image": "acme/vllm:1"}))}
    assert len(names) == 2


def test_other_nodes_or_tolerations_are_another_daemon_set():
    (here,) = pulls(model())
    (there,) = pulls(model(), classes=accelerator(nodeSelector={"gpu": "h100-nvl"}))
    (tainted,) = pulls(model(), classes=accelerator(tolerations=[{"key": "gpu", "operator": "Exists"}]))
    assert len({body["metadata"]["name"] for body in (here, there, tainted)}) == 3
    assert tainted["spec"]["template"]["spec"]["tolerations"] == [{"key": "gpu", "operator": "Exists"}]


def test_a_class_without_a_node_selector_or_that_is_not_there_pulls_nothing():
    assert pulls(model(), classes=accelerator(nodeSelector={})) == []
    assert pulls(model(), classes=accelerator("other")) == []
    assert pulls() == []
