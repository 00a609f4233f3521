"""A Model becomes applications that are named by their revision, or an obstacle that says what to do."""

import pytest

from penstock.api.load import parse_resource
from penstock.catalog import accelerator_classes
from penstock_operator.model.prepare import Preparations, prepare
from penstock_operator.settings import RayOptions

CPU = parse_resource(
    {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "AcceleratorClass",
        "metadata": {"name": "cpu"},
        "spec": {
            "vendor": "cpu",
            "memory": "4Gi",
            "resourceName": "cpu",
            "price": {"onDemandPerHour": "0.10"},
        },
    }
)
CLASSES = {item.name: item for item in (*accelerator_classes(), CPU)}
OPTIONS = RayOptions()


def model(name="llama", **spec):
    body = {"source": "hf://acme/unknown", "accelerator": "nvidia-h100:1", **spec}
    body = {key: value for key, value in body.items() if value is not None}
    return parse_resource(
        {
            "apiVersion": "penstock.dev/v1alpha1",
            "kind": "Model",
            "metadata": {"name": name, "namespace": "team"},
            "spec": body,
        }
    )


def labels(model, placement, accelerator):
    return {"penstock.dev/group": f"{accelerator.name}-{placement.count}"}


def ready(given, **options):
    prepared = prepare(given, CLASSES, OPTIONS, labels=labels, **options)
    assert prepared.obstacle is None, prepared.obstacle
    return prepared.applications


def obstacle(given, classes=CLASSES, **options):
    prepared = prepare(given, classes, OPTIONS, labels=labels, **options)
    assert prepared.applications == ()
    return prepared.obstacle


def test_an_application_is_named_by_model_class_and_revision():
    (app,) = ready(model())
    assert app.name == f"llama--nvidia-h100--{app.revision}"
    assert len(app.revision) == 8
    assert app.labels == {"penstock.dev/group": "nvidia-h100-1"}
    assert app.usd_per_hour == CLASSES["nvidia-h100"].usd_per_hour()


@pytest.mark.parametrize(
    "change",
    [
        {"contextLength": 4096},
        {"engine": {"args": ["--seed", "1"]}},
        {"env": [{"name": "A", "value": "b"}]},
        {"source": "hf://acme/unknown@v2"},
    ],
)
def test_what_calls_for_new_replicas_changes_the_name_and_taking_it_back_restores_it(change):
    (before,) = ready(model())
    (after,) = ready(model(**change))
    assert after.name != before.name
    assert ready(model())[0].name == before.name


@pytest.mark.parametrize(
    "change", [{"replicas": 3, "scaling": {"maxReplicas": 4}}, {"drainTimeoutSeconds": 5}, {"slo": {}}]
)
def test_what_replicas_need_not_know_leaves_the_name(change):
    assert ready(model(**change))[0].name == ready(model())[0].name


def test_another_worker_group_is_another_application():
    (here,) = prepare(model(), CLASSES, OPTIONS, labels=lambda *_: {"penstock.dev/group": "a"}).applications
    (there,) = prepare(model(), CLASSES, OPTIONS, labels=lambda *_: {"penstock.dev/group": "b"}).applications
    assert here.name != there.name


def test_each_placement_has_an_application():
    apps = ready(model(accelerator=None, accelerators=[{"class": "nvidia-h100"}, {"class": "nvidia-l4"}]))
    assert [app.accelerator_class for app in apps] == ["nvidia-h100", "nvidia-l4"]


@pytest.mark.parametrize(("task", "uri"), [("Generate", "tiny://llama"), ("Embed", "tiny://llama-embed")])
def test_the_tiny_model_is_made_by_the_replica(task, uri):
    (app,) = ready(model(source="tiny://llama", accelerator="cpu:1", task=task))
    assert app.argv[app.argv.index("--model") + 1] == uri


def test_weights_resolve_in_the_replica():
    for source in ("hf://a/b@v1", "pvc://claim/path", "s3://bucket/x", "gs://bucket/x", "file:///models/x"):
        (app,) = ready(model(source=source))
        assert app.argv[app.argv.index("--model") + 1] == source


@pytest.mark.parametrize(
    ("spec", "reason", "said"),
    [
        ({"accelerator": "nvidia-h1000:1"}, "UnknownAcceleratorClass", "did you mean nvidia-h100?"),
        ({"source": None, "preset": "llama-3.1-70b", "accelerator": "nvidia-l4:1"}, "DoesNotFit", "set spec."),
        ({"source": None, "preset": "lama-3.1-8b"}, "UnknownPreset", "llama-3.1-8b"),
        ({"engine": {"name": "vLM"}}, "UnknownEngine", "did you mean 'vllm'?"),
        ({"engine": {"version": "0.9.0"}}, "UnknownEngineVersion", "spec.engine.image"),
        ({"source": "oci://registry/x:1"}, "UnsupportedSource", "podTemplate"),
        ({"source": "file://./x"}, "UnsupportedSource", "absolute"),
        ({"engine": {"args": ["--max-num-seqs", "0"]}}, "Invalid", "--max-num-seqs"),
    ],
)
def test_an_obstacle_names_the_remedy(spec, reason, said):
    found = obstacle(model(**spec))
    assert (found.reason, said in found.message) == (reason, True), found.message


def test_an_engine_version_with_an_image_of_its_own_is_taken():
    assert ready(model(engine={"version": "0.9.0", "image": "acme/vllm:0.9.0"}))
    assert ready(model(engine={"version": OPTIONS.engine_version}))


def test_a_class_without_a_price_is_not_deployed():
    spec = CLASSES["nvidia-h100"].spec.model_copy(update={"price": None})
    classes = {"nvidia-h100": CLASSES["nvidia-h100"].model_copy(update={"spec": spec})}
    found = obstacle(model(), classes)
    assert found.reason == "PriceNotFound"
    assert "spec.price.onDemandPerHour" in found.message


def test_no_class_at_all_is_said_as_such():
    assert "there is none at all" in obstacle(model(), {}).message


def test_a_name_that_an_older_object_has_goes_before_all_else():
    found = obstacle(model(accelerator="nope:1"), name_taken="Model a/llama has the name since yesterday; rename one")
    assert (found.reason, found.message) == ("NameTaken", "Model a/llama has the name since yesterday; rename one")


def test_a_model_is_prepared_once_while_nothing_changes():
    asked = []

    def counted(*placed):
        asked.append(placed)
        return {}

    preparations = Preparations(OPTIONS, counted)
    given = model()
    first = preparations.prepare(given, CLASSES)
    assert preparations.prepare(given, CLASSES) is first
    assert len(asked) == 1
    assert preparations.prepare(given, CLASSES, name_taken="x").obstacle.reason == "NameTaken"
    assert preparations.prepare(given, dict(CLASSES)) is not first
    preparations.forget("team", "llama")
    assert preparations.prepare(given, CLASSES).obstacle is None
