"""The admin token, from a setting or from a file that changes under the process."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from penstock_gateway.admin.token import AdminToken


def test_without_any_everybody_is_admitted():
    assert AdminToken(None, None).admits("")


def test_a_token_admits_itself_only():
    token = AdminToken(SecretStr("right"), None)
    assert token.admits("right")
    assert not token.admits("wrong")
    assert not token.admits("")


def test_a_files_token_changes_with_the_file_and_outlives_it(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("first\n")
    token = AdminToken(None, file)
    assert token.admits("first")
    file.write_text("second\n")
    assert token.admits("second")
    assert not token.admits("first")
    for spoil in (lambda: file.write_text("\n"), file.unlink):
        spoil()
        assert token.admits("second")
        assert not token.admits("")


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_a_file_that_is_missing_or_empty_is_refused_at_start(tmp_path: Path, text: str | None):
    file = tmp_path / "token"
    if text is not None:
        file.write_text(text)
    with pytest.raises(OSError, match=str(file)):
        AdminToken(None, file)
