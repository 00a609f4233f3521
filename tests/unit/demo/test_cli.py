"""The demo's command says at once what it cannot do."""

from click.testing import CliRunner

from penstock_loadtest.demo.cli import command


def test_a_folder_that_cannot_be_written_is_named_before_anything_starts(tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(command, ["--out", str(tmp_path / "file" / "below")])
    assert (result.exit_code, "below" in result.output) == (2, True)
    assert "name another folder" in result.output
