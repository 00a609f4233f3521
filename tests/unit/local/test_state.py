"""The state directory: where it is, who holds it, and what a reader of it may find."""

import os
import stat
from pathlib import Path

import msgspec
import pytest

from penstock.errors import UserError
from penstock.local.state import PlatformRecord, StateDirectory, write_atomically


def record(**changes) -> PlatformRecord:
    values = {
        "pid": 1,
        "started_s": 1.0,
        "data_host": "127.0.0.1",
        "data_port": 1,
        "admin_host": "127.0.0.1",
        "admin_port": 2,
        "metrics_port": 3,
        "dashboard_port": 4,
        "gcs_port": 5,
        "temp_dir": "/nowhere",
        "paths": (),
    }
    return PlatformRecord(**(values | changes))


def test_a_given_folder_goes_before_the_variable_and_that_before_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("PENSTOCK_STATE", raising=False)
    assert StateDirectory.resolve().root == tmp_path / "penstock" / "default"
    monkeypatch.setenv("PENSTOCK_STATE", str(tmp_path / "chosen"))
    assert StateDirectory.resolve().root == tmp_path / "chosen"
    assert StateDirectory.resolve(tmp_path / "given").root == tmp_path / "given"


def test_secrets_are_made_once_and_readable_by_their_owner_only(tmp_path):
    state = StateDirectory(tmp_path / "s")
    state.prepare()
    first = state.pepper.read_bytes()
    state.prepare()
    assert state.pepper.read_bytes() == first == first.strip()
    assert first != state.ray_token.read_bytes()
    assert {stat.S_IMODE(file.stat().st_mode) for file in (state.pepper, state.ray_token)} == {0o600}


def test_a_second_operator_is_told_where_the_first_one_runs(tmp_path):
    state = StateDirectory(tmp_path)
    lock = state.acquire()
    assert state.is_locked()
    with pytest.raises(UserError, match=f"already runs in {tmp_path}.*penstock down.*--state"):
        state.acquire()
    with pytest.raises(UserError, match="already runs"):
        state.check_free()
    os.close(lock)
    assert not state.is_locked()
    os.close(state.acquire())


def test_an_operator_that_is_gone_holds_nothing(tmp_path):
    state = StateDirectory(tmp_path)
    child = os.fork()
    if child == 0:
        state.acquire()
        os._exit(9)
    os.waitpid(child, 0)
    assert not state.is_locked()


def test_the_record_reads_back_as_written_and_a_foreign_one_is_an_error_with_its_place(tmp_path):
    state = StateDirectory(tmp_path)
    assert state.read_platform() is None
    state.write_platform(record(pid=42))
    assert state.read_platform() == record(pid=42)
    state.platform.write_bytes(msgspec.json.encode({"pid": "many"}))
    with pytest.raises(UserError, match=r"platform\.json.*remove it"):
        state.read_platform()


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path):
    file = tmp_path / "f"
    write_atomically(file, b"old")
    with pytest.raises(TypeError):
        write_atomically(file, "text")  # type: ignore[arg-type]
    assert file.read_bytes() == b"old"
    assert [path.name for path in Path(tmp_path).iterdir()] == ["f"]
