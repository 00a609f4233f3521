import os
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api import ManifestError, Model, load_files, parse_resource
from penstock.api.document import read_documents
from penstock.api.load import MOST_FILE_BYTES

HEAD = "apiVersion: penstock.dev/v1alpha1\nkind: Model\nmetadata: {name: m}\nspec:\n"


def write(folder: Path, text: str, name: str = "m.yaml") -> Path:
    file = folder / name
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


def problems(*paths: Path):
    with pytest.raises(ManifestError) as caught:
        load_files(paths)
    return caught.value.problems


def test_the_samples_load_together():
    samples = Path(__file__).parents[3] / "manifests" / "samples"
    manifest = load_files([samples])
    assert {model.name for model in manifest.models} == {"tiny", "tiny-embedding", "llama-3-1-8b"}
    assert manifest.secret_value("default", "tenant-keys", "research") == b"sk-sample-research"


def test_a_folder_is_read_in_order_and_a_file_named_twice_is_read_once(tmp_path):
    for name in ("b.yml", "a.yaml", "c.txt"):
        write(tmp_path, HEAD.replace("name: m", f"name: {name[0]}") + "  preset: p\n  accelerator: cpu:1\n", name)
    manifest = load_files([tmp_path, tmp_path / "a.yaml"])
    assert [model.name for model in manifest.models] == ["a", "b"]


def test_relative_sources_are_made_absolute_beside_the_file(tmp_path):
    file = write(tmp_path, HEAD + "  source: file://./w\n  accelerator: cpu:1\n")
    assert load_files([file]).models[0].spec.source == f"file://{tmp_path.resolve()}/w"


@pytest.mark.parametrize(
    ("spec", "line", "field", "message"),
    [
        ("  preset: p\n  accelerator: cpu:1\n  scalling: {}", 7, "spec.scalling", "did you mean spec.scaling?"),
        (
            "  preset: p\n  accelerator: cpu:1\n  scaling:\n    minReplica: 1",
            8,
            "spec.scaling.minReplica",
            "minReplicas?",
        ),
        ("  preset: p\n  accelerators:\n  - class: cpu\n    cuont: 2", 8, "spec.accelerators[0].cuont", "[0].count?"),
        ("  preset: p\n  accelerator: cpu:1\n  contextLength: '8'", 7, "spec.contextLength", "'8' is refused"),
        ("  preset: p\n  accelerator: cpu:1\n  task: embed", 7, "spec.task", "did you mean Embed?"),
        ("  preset: p\n  accelerator: cpu:1\n  drainTimeoutSeconds: -1", 7, "spec.drainTimeoutSeconds", "-1"),
        ("  preset: p\n  accelerator: cpu:0", 6, "spec.accelerator", "CLASS:COUNT"),
        ("  preset: p\n  accelerator: Big_GPU:1", 6, "spec.accelerator", "try 'big-gpu'"),
        ("  accelerator: cpu:1", 4, "spec.source", "exactly one of source"),
        ("  preset: p\n  source: hf://a/b\n  accelerator: cpu:1", 5, "spec.preset", "keep exactly one"),
        ("  preset: p", 4, "spec.accelerator", "CLASS:COUNT"),
        ("  preset: p\n  accelerator: a:1\n  accelerators: [{class: a}]", 7, "spec.accelerators", "keep one"),
        ("  preset: p\n  accelerator: a:1\n  scaling: {minReplicas: 3}", 7, "spec.scaling.maxReplicas", "set it to 3"),
        (
            "  preset: p\n  accelerator: a:1\n  scaling: {targetPressure: 0.8}",
            7,
            "spec.scaling.targetPressure",
            '"0.8"',
        ),
        (
            "  preset: p\n  accelerator: a:1\n  scaling: {targetPressure: '2'}",
            7,
            "spec.scaling.targetPressure",
            "(0, 1]",
        ),
        (
            "  preset: p\n  accelerator: a:1\n  scaling: {scaleToZeroAfterSeconds: 5}",
            7,
            "spec.scaling.scaleToZeroAfterSeconds",
            "set minReplicas to 0",
        ),
        ("  preset: p\n  accelerator: a:1\n  replicas: 3", 7, "spec.replicas", "set scaling.maxReplicas to 3"),
        ("  preset: p\n  accelerator: a:2\n  parallelism: {tensor: 4}", 6, "spec.accelerator", "make the count 4"),
        ("  preset: p\n  accelerator: a:1\n  speculative: {method: eagle}", 7, "spec.speculative.model", "eagle"),
        (
            "  preset: p\n  accelerator: a:1\n  speculative: {method: ngram, model: hf://a/b}",
            7,
            "spec.speculative.model",
            "takes none",
        ),
        (
            "  preset: p\n  accelerator: a:1\n  task: Embed\n  speculative: {method: ngram}",
            8,
            "spec.speculative",
            "Embed",
        ),
        ("  preset: p\n  accelerator: a:1\n  quantization: gguf", 7, "spec.quantization", "gguf"),
        ("  preset: p\n  accelerator: a:1\n  env: [{name: A}, {name: A}]", 7, "spec.env[1]", "twice"),
        ("  preset: p\n  accelerator: a:1\n  task: Generate\n  task: Embed", 8, "spec.task", "first on line 7"),
        ("  preset: p\n  accelerator: a:1\n  contextLength: 1\n  1: x", 8, "spec", "not a string"),
    ],
)
def test_a_mistake_is_told_with_line_field_and_remedy(tmp_path, spec, line, field, message):
    (problem,) = problems(write(tmp_path, HEAD + spec + "\n"))
    assert (problem.line, problem.field) == (line, field)
    assert message in problem.message


def test_every_mistake_of_every_file_is_told_at_once(tmp_path):
    write(tmp_path, "kind: Modle\napiVersion: penstock.dev/v1alpha1\n", "a.yaml")
    write(tmp_path, "kind: Model\napiVersion: penstock.dev/v1\n---\njust text\n", "b.yaml")
    write(tmp_path, "a: [1\n", "c.yaml")
    found = [str(problem).removeprefix(f"{tmp_path}/") for problem in problems(tmp_path, tmp_path / "missing.yaml")]
    assert found[0] == "a.yaml:1: kind: 'Modle' is unknown: did you mean Model?"
    assert found[1] == "b.yaml:2: apiVersion: 'penstock.dev/v1' is unknown for Model: write penstock.dev/v1alpha1"
    assert found[2].startswith("b.yaml:4: is not a resource")
    assert found[3].startswith("c.yaml:2: is not YAML")
    assert found[4] == "missing.yaml: is not there: check the path"


def test_a_list_is_not_called_empty_because_its_items_are_wrong(tmp_path):
    file = tmp_path / "route.yaml"
    head = "apiVersion: penstock.dev/v1alpha1\nkind: Route\nmetadata: {name: r}\n"
    file.write_text(head + "spec: {backends: [{model: m, wieght: 3}]}")
    with pytest.raises(ManifestError) as caught:
        load_files([file])
    assert [problem.field for problem in caught.value.problems] == ["spec.backends[0].wieght"]
    file.write_text(head + "spec: {backends: []}")
    with pytest.raises(ManifestError) as caught:
        load_files([file])
    assert [problem.field for problem in caught.value.problems] == ["spec.backends"]


def test_one_name_may_be_used_once(tmp_path):
    text = HEAD + "  preset: p\n  accelerator: cpu:1\n"
    first, second = write(tmp_path, text, "a.yaml"), write(tmp_path, text, "b.yaml")
    (problem,) = problems(first, second)
    assert (problem.file, problem.line, problem.field) == (second, 3, "metadata.name")
    assert f"{first}:1" in problem.message


def test_snake_case_is_not_yaml(tmp_path):
    (problem,) = problems(write(tmp_path, HEAD + "  preset: p\n  accelerator: cpu:1\n  context_length: 5\n"))
    assert "did you mean spec.contextLength?" in problem.message


def test_secret_values_never_show(tmp_path):
    file = write(
        tmp_path, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: 12345}\ndata: {b: '!hush!'}\n"
    )
    told = "\n".join(str(problem) for problem in problems(file))
    assert "stringData.a" in told
    assert "12345" not in told
    assert "hush" not in told
    assert "hush" not in repr(
        parse_resource({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "hush"}})
    )


def test_a_name_is_a_name(tmp_path):
    text = "apiVersion: penstock.dev/v1alpha1\nkind: AcceleratorClass\nmetadata: {name: %s}\n"
    text += "spec: {vendor: v, memory: 1Gi}\n"
    (problem,) = problems(write(tmp_path, text % "H100_x"))
    assert "try 'h100-x'" in problem.message
    (problem,) = problems(write(tmp_path, text % "a, namespace: b"))
    assert "whole cluster" in problem.message


def test_anchors_and_merges_are_read_and_loops_refused(tmp_path):
    text = HEAD + "  preset: p\n  accelerator: cpu:1\n  podTemplate:\n    a: &x {k: v}\n    b: {<<: *x, l: w}\n"
    assert load_files([write(tmp_path, text)]).models[0].spec.pod_template["b"] == {"k": "v", "l": "w"}
    (problem,) = problems(write(tmp_path, "a: &x [*x]\n"))
    assert "alias to itself" in problem.message
    (problem,) = problems(write(tmp_path, "[" * 5000))
    assert "nested too deeply" in problem.message


def test_what_kubernetes_returns_is_accepted_and_reads_back(tmp_path):
    data = {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": "m", "namespace": "n", "uid": "u", "generation": 2, "managedFields": [{"manager": "x"}]},
        "spec": {"preset": "p", "accelerators": [{"class": "a", "count": 2, "purchase": "Spot"}]},
        "status": {"conditions": []},
    }
    model = parse_resource(data)
    assert isinstance(model, Model)
    assert model.model_dump(mode="json", exclude_unset=True) == data


@given(st.text(max_size=200))
def test_any_text_gives_resources_or_problems_never_another_error(text):
    found = []
    for document in read_documents(Path("f"), text, found):
        assert document.line_of(("spec", 0)) >= 1


def test_aliases_that_stand_for_billions_of_values_are_refused(tmp_path):
    lines = [f"a0: &a0 [{', '.join(['x'] * 9)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    found = problems(write(tmp_path, HEAD.replace("spec:\n", "\n".join(lines) + "\nspec: {podTemplate: *a11}\n")))
    assert any("aliases make the document larger" in problem.message for problem in found)


def test_merges_of_merges_are_read_once_each(tmp_path):
    lines = ["a0: &a0 {}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 14)]
    found = problems(write(tmp_path, HEAD.replace("spec:\n", "\n".join(lines) + "\nspec: {<<: *a13}\n")))
    assert {problem.field for problem in found} >= {"a0", "a13"}


def test_what_is_no_file_of_a_sensible_size_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (MOST_FILE_BYTES + 1))
    (tmp_path / "text.yaml").write_bytes(b"name: caf\xe9")
    found = problems(*tmp_path.iterdir())
    messages = {problem.file.name: problem.message for problem in found}
    assert "no regular file" in messages["pipe.yaml"]
    assert "split it into several files" in messages["large.yaml"]
    assert "not UTF-8" in messages["text.yaml"]
