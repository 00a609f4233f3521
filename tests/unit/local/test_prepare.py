"""What keeps a model from being served is found before Serve is asked, and told with the field and the remedy."""

from pathlib import Path

import pytest

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.manifest import Manifest
from penstock.api.model import Model
from penstock.catalog.budget import CPU_CACHE_GIB
from penstock.catalog.limits import CPU_CACHE_VARIABLE
from penstock.control.brain import desired_applications, first_target
from penstock.control.prepared import told_apart
from penstock.local.fit import Machine
from penstock.local.prepare import Preparer
from penstock.local.state import StateDirectory
from penstock.serve.applications import application_config, spread
from penstock.serve.status import ServeStatus

EMPTY = ServeStatus(started=False, applications={})

CPU = AcceleratorClass.model_validate(
    {
        "metadata": {"name": "cpu"},
        "spec": {"vendor": "cpu", "memory": "4Gi", "resourceName": "cpu", "price": {"onDemandPerHour": "0.10"}},
    }
)


def model(**spec) -> Model:
    return Model.model_validate(
        {
            "metadata": {"name": "tiny"},
            "spec": {"preset": "tiny-random", "accelerator": "cpu:1", "contextLength": 4096, **spec},
        }
    )


def source(uri: str, **spec) -> Model:
    return Model.model_validate({"metadata": {"name": "m"}, "spec": {"source": uri, "accelerator": "cpu:1", **spec}})


@pytest.fixture
def preparer(tmp_path: Path) -> Preparer:
    state = StateDirectory(tmp_path)
    (state.weights / "tiny-llama").mkdir(parents=True)
    (state.weights / "tiny-llama" / "complete").touch()
    return Preparer(state, Machine(cpus=4, gpus=0), Path("/scratch"))


def prepare(preparer: Preparer, wanted: Model):
    return preparer.prepare(wanted, Manifest(models=(wanted,), accelerator_classes=(CPU,)))


def test_a_sound_model_becomes_an_application_with_what_its_engine_needs(preparer):
    [app] = prepare(preparer, model(env=[{"name": "A", "value": "1"}])).applications
    assert app.name == "tiny--cpu"
    assert app.argv[:4] == ("--model", str(preparer.state.weights / "tiny-llama"), "--served-model-name", "tiny")
    assert app.env["A"] == "1"
    assert app.env["RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD"] == "0"
    assert (app.num_cpus, app.num_gpus, str(app.usd_per_hour)) == (1.0, 0.0, "0.10")


def test_an_engine_on_processors_is_told_of_the_cache_that_plans_count_on(preparer):
    [app] = prepare(preparer, model()).applications
    assert app.env[CPU_CACHE_VARIABLE] == str(CPU_CACHE_GIB)


def test_what_the_engine_runs_changes_the_revision_and_how_many_of_it_does_not(preparer):
    def revision(**spec):
        [app] = prepare(preparer, model(**spec)).applications
        return app.revision

    assert revision() == revision(scaling={"maxReplicas": 3}) == revision(drainTimeoutSeconds=5)
    assert len({revision(), revision(contextLength=2048), revision(env=[{"name": "A", "value": "1"}])}) == 3


def test_serve_is_told_how_long_a_stream_may_go_on(preparer):
    [app] = prepare(preparer, model(drainTimeoutSeconds=77)).applications
    [deployment] = application_config(app, 2)["deployments"]
    assert (deployment["graceful_shutdown_timeout_s"], deployment["num_replicas"]) == (77.0, 2)
    with pytest.raises(ValueError, match="replicas is 0"):
        application_config(app, 0)


@pytest.mark.parametrize(
    ("wanted", "reason", "words"),
    [
        (source("file:///no/such/folder"), "WeightsMissing", ["spec.source", "/no/such/folder", "check the path"]),
        (source("pvc://claim/path"), "Unsupported", ["spec.source", "file://"]),
        (model(preset="tiny-rando"), "UnknownPreset", ["spec.preset", "tiny-rando", "tiny-random"]),
        (model(accelerator="gpux:1"), "UnknownAcceleratorClass", ["gpux", "cpu"]),
        (model(accelerator="cpu:64"), "DoesNotFit", ["cpu:64", "64 processors", "4", "--cpus"]),
        (model(accelerator="nvidia-h100-sxm:1"), None, []),
        (model(preset="llama-3.1-70b"), "DoesNotFit", ["penstock plan"]),
        (model(engine={"name": "vlm"}), "UnknownEngine", ["spec.engine.name", "vlm"]),
        (model(engine={"args": ["--block-size", "x"]}), "Invalid", ["--block-size"]),
    ],
)
def test_an_obstacle_names_the_field_the_value_and_the_remedy(preparer, wanted, reason, words):
    prepared = prepare(preparer, wanted)
    assert prepared.applications == ()
    assert prepared.obstacle is not None
    assert reason in {prepared.obstacle.reason, None}
    assert [word for word in words if word not in prepared.obstacle.message] == []
    assert not prepared.obstacle.passing


def test_a_folder_is_looked_at_anew_each_time(preparer, tmp_path):
    wanted = source(f"file://{tmp_path}/w")
    manifest = Manifest(models=(wanted,), accelerator_classes=(CPU,))

    def message():
        obstacle = preparer.prepare(wanted, manifest).obstacle
        return "" if obstacle is None else obstacle.message

    assert "there is no" in message()
    folder = tmp_path / "w"
    folder.mkdir()
    assert "no config.json" in message()
    (folder / "config.json").write_text("{}")
    assert "no *.safetensors" in message()
    (folder / "model.safetensors").touch()
    assert message() == ""


@pytest.mark.parametrize(
    ("replicas", "bounds", "counts"),
    [
        (3, [(None, None)], (3,)),
        (3, [(None, 2), (None, None)], (2, 1)),
        (1, [(1, None), (2, None)], (1, 2)),
        (5, [(None, 1), (1, 2)], (1, 2)),
        (4, [(1, 3), (1, None)], (3, 1)),
    ],
)
def test_replicas_go_to_each_minimum_and_then_to_the_first_with_room(replicas, bounds, counts):
    names = ("minReplicas", "maxReplicas")
    placements = [
        {"class": f"c{index}", **{k: v for k, v in zip(names, bound, strict=True) if v is not None}}
        for index, bound in enumerate(bounds)
    ]
    wanted = model(accelerator=None, scaling={"maxReplicas": 9}, accelerators=placements)
    assert spread(replicas, wanted.placements) == counts


def test_a_variant_that_is_to_have_no_replica_is_not_deployed_to_be_stopped(preparer):
    wanted = model(scaling={"minReplicas": 0})
    applications = prepare(preparer, wanted).applications
    assert desired_applications(wanted, applications, 0, EMPTY) == []
    assert [want.target for want in desired_applications(wanted, applications, 1, EMPTY)] == [1]


@pytest.mark.parametrize(
    ("spec", "target"),
    [
        ({}, 1),
        ({"scaling": {"minReplicas": 2, "maxReplicas": 3}}, 2),
        ({"replicas": 3, "scaling": {"maxReplicas": 4}}, 3),
        ({"replicas": 5, "scaling": {"mode": "External"}}, 5),
    ],
)
def test_a_model_begins_with_what_it_asks_for_within_its_bounds(spec, target):
    assert first_target(model(**spec)) == target


def test_placements_that_differ_in_their_count_only_get_names_of_their_own(preparer):
    wanted = model(accelerator=None, accelerators=[{"class": "cpu", "count": 1}, {"class": "cpu", "count": 2}])
    assert [app.name for app in prepare(preparer, wanted).applications] == ["tiny--cpu--1", "tiny--cpu--2"]


def test_a_model_whose_application_has_anothers_name_is_told_so_and_stops_nobody(preparer):
    longer = CPU.model_copy(update={"metadata": CPU.metadata.model_copy(update={"name": "a--cpu"})})
    one, other = named("tiny--a", accelerator="cpu:1"), named("tiny", accelerator="a--cpu:1")
    manifest = Manifest(models=(one, other), accelerator_classes=(CPU, longer))
    [first, second], problems = told_apart(preparer.prepare(item, manifest) for item in (one, other))
    assert first.obstacle is None
    assert second.obstacle is not None
    assert second.obstacle.reason == "NameTaken"
    assert "'tiny--a' comes to the same Serve application 'tiny--a--cpu'; rename one" in second.obstacle.message
    assert (second.applications, problems) == ((), [])


def test_of_two_models_with_one_name_in_two_namespaces_the_first_is_served(preparer):
    one, other = named("tiny", namespace="red"), named("tiny", namespace="blue")
    manifest = Manifest(models=(one, other), accelerator_classes=(CPU,))
    [kept], [problem] = told_apart(preparer.prepare(item, manifest) for item in (one, other))
    assert kept.model is one
    assert problem.startswith("Model blue/tiny: there is a Model red/tiny as well")
    assert problem.endswith("rename one of them")


def test_a_path_that_the_system_refuses_is_an_obstacle_and_not_a_fault(preparer):
    obstacle = prepare(preparer, source("file:///" + "long" * 100)).obstacle
    assert obstacle is not None
    assert obstacle.reason == "WeightsMissing"
    assert "cannot be looked at: File name too long" in obstacle.message


def named(name: str, namespace: str | None = None, **spec) -> Model:
    wanted = model(**spec)
    metadata = wanted.metadata.model_copy(update={"name": name, "namespace": namespace})
    return wanted.model_copy(update={"metadata": metadata})
