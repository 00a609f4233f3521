"""The last good manifest stays in force until the files say something else that can be served."""

import pytest

from penstock.api.load import load_files
from penstock.local.manifests import ManifestWatch

MODEL = (
    "{apiVersion: penstock.dev/v1alpha1, kind: Model, metadata: {name: %s}, spec: {preset: phi-4, accelerator: a:1}}"
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text(MODEL % "one")
    return path


@pytest.fixture
def watch(file):
    return ManifestWatch([file], load_files([file]))


def names(watch):
    return [model.name for model in watch.manifest.models]


def test_an_edit_is_taken(file, watch):
    assert not watch.read()
    file.write_text(f"{MODEL % 'one'}\n---\n{MODEL % 'two'}")
    assert watch.read()
    assert (names(watch), watch.problem) == (["one", "two"], None)


@pytest.mark.parametrize("text", ["", "{", "kind: Modell", "# all gone"])
def test_a_file_that_is_broken_or_only_half_written_drains_nobody(file, watch, text):
    file.write_text(text)
    assert watch.read()
    assert names(watch) == ["one"]
    assert watch.problem
    file.write_text(MODEL % "two")
    watch.read()
    assert (names(watch), watch.problem) == (["two"], None)
