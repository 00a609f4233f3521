"""What of the chart can be checked without rendering it."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "penstock"
DEFINITIONS = sorted((ROOT / "manifests" / "crds").glob("*.yaml"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
DESCRIPTION = yaml.safe_load((CHART / "Chart.yaml").read_text())
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def images(values):
    for value in values.values():
        if isinstance(value, dict):
            if "repository" in value:
                yield value
            yield from images(value)


@pytest.mark.parametrize("file", DEFINITIONS, ids=lambda file: file.stem)
def test_the_definitions_are_those_of_the_manifests(file):
    copy = CHART / "files" / "crds" / file.name
    assert copy.read_text() == file.read_text(), "run `cp manifests/crds/*.yaml helm/penstock/files/crds/`"


def test_no_definition_is_left_over():
    assert {path.name for path in (CHART / "files" / "crds").iterdir()} == {path.name for path in DEFINITIONS}


def test_the_description_names_every_definition():
    listed = yaml.safe_load(DESCRIPTION["annotations"]["artifacthub.io/crds"])
    installed = [yaml.safe_load(file.read_text()) for file in DEFINITIONS]
    assert {entry["name"] for entry in listed} == {definition["metadata"]["name"] for definition in installed}
    assert {entry["kind"] for entry in listed} == {definition["spec"]["names"]["kind"] for definition in installed}


def test_the_versions_are_the_distributions():
    assert DESCRIPTION["version"] == DESCRIPTION["appVersion"] == VERSION
    listed = {entry["image"] for entry in yaml.safe_load(DESCRIPTION["annotations"]["artifacthub.io/images"])}
    ours = {f"{image['repository']}:{VERSION}" for image in images(VALUES) if not image["tag"]}
    theirs = {f"{image['registry']}/{image['repository']}:{image['tag']}" for image in images(VALUES) if image["tag"]}
    assert listed == ours | theirs


def test_no_image_floats():
    for file in CHART.rglob("*"):
        if file.suffix in {".yaml", ".tpl"}:
            assert not re.search(r":latest\b", file.read_text()), file


def test_the_engine_has_the_versions_that_are_pinned():
    pins = (ROOT / "requirements" / "engine-gpu.txt").read_text()
    assert f"\nray=={VALUES['engine']['rayVersion']}\n" in pins
    assert f"\nvllm=={VALUES['engine']['engineVersion']}\n" in pins


def test_every_file_of_a_component_is_in_its_folder():
    loose = {path.name for path in (CHART / "templates").iterdir() if path.is_file()}
    assert loose == {"NOTES.txt", "_helpers.tpl", "_names.tpl", "checks.yaml", "extra-objects.yaml"}
