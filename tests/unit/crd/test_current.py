"""The files under version control are those that the command writes."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from penstock.api.crd import CRD_KINDS, custom_resource_definition, file_name, render
from penstock.cli.crds import command

FOLDER = Path(__file__).parents[3] / "manifests" / "crds"


@pytest.mark.parametrize("kind", CRD_KINDS)
def test_the_file_is_current(kind):
    assert (FOLDER / file_name(kind)).read_text() == render(kind), "run `penstock crds --output manifests/crds`"


def test_no_file_is_left_over():
    assert {path.name for path in FOLDER.iterdir()} == {file_name(kind) for kind in CRD_KINDS}


def test_the_command_prints_all_kinds_as_one_stream():
    result = CliRunner().invoke(command)
    assert result.exit_code == 0
    documents = list(yaml.safe_load_all(result.output))
    assert documents == [custom_resource_definition(kind) for kind in CRD_KINDS]


def test_the_command_writes_one_file_a_kind(tmp_path):
    result = CliRunner().invoke(command, ["--output", str(tmp_path / "new" / "folder")])
    assert result.exit_code == 0
    assert len(list((tmp_path / "new" / "folder").iterdir())) == len(CRD_KINDS)


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(command, ["--output", str(tmp_path / "file" / "below")])
    assert result.exit_code == 2
    assert "name a folder that can" in result.output
