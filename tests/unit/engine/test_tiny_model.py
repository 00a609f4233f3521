"""The tiny model: the same seed gives the same bytes, and only printable ASCII can come out."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from penstock_engine.tiny_model import PRINTABLE_BYTES, SPECIAL_TOKENS, command, write_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), seed=7)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    raw = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        bits = np.frombuffer(raw[begin:end], dtype="<u2").astype(np.uint32) << 16
        tensors[name] = bits.view(np.float32).reshape(entry["shape"])
    return tensors


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path):
    assert _bytes(write_tiny_model(tmp_path / "same", seed=7)) == _bytes(folder)
    assert _bytes(write_tiny_model(tmp_path / "other", seed=8)) != _bytes(folder)


def test_nothing_but_printable_ascii_can_be_written(folder: Path):
    tensors = _tensors(folder)
    anchor = tensors["model.embed_tokens.weight"][:, 0]
    assert (anchor == anchor[0]).all()
    assert anchor[0] > 0
    for name, tensor in tensors.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            assert (tensor[0] == 0).all(), f"{name} writes to the anchor"
    barred = tensors["lm_head.weight"][:, 0] < -100
    assert set(np.flatnonzero(~barred)) == set(PRINTABLE_BYTES)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@settings(deadline=None)
@given(text=st.text())
def test_any_text_survives_the_tokenizer(tokenizer: Tokenizer, text: str):
    ids = tokenizer.encode(text).ids
    if not any(special in text for special in SPECIAL_TOKENS):
        assert ids == list(text.encode())
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_every_written_token_is_one_character(tokenizer: Tokenizer):
    assert [tokenizer.decode([byte]) for byte in PRINTABLE_BYTES] == [chr(byte) for byte in PRINTABLE_BYTES]


def test_an_embedding_model_has_no_output_layer(tmp_path: Path):
    folder = write_tiny_model(tmp_path, embed=True)
    assert "lm_head.weight" not in _tensors(folder)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaModel"]


def test_the_command_says_that_it_is_noise(tmp_path: Path):
    result = CliRunner().invoke(command, [str(tmp_path / "m"), "--seed", "3"])
    assert result.exit_code == 0
    assert "noise" in result.output
    assert (tmp_path / "m" / "model.safetensors").stat().st_size > 100_000


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("")
    negative = CliRunner().invoke(command, [str(tmp_path / "m"), "--seed", "-1"])
    assert (negative.exit_code, "--seed -1" in negative.output) == (2, True)
    blocked = CliRunner().invoke(command, [str(file / "below")])
    assert (blocked.exit_code, "below" in blocked.output) == (2, True)


def test_the_command_writes_over_a_tiny_model_but_into_no_folder_of_other_things(tmp_path: Path):
    for _ in range(2):
        assert CliRunner().invoke(command, [str(tmp_path / "m")]).exit_code == 0
    (tmp_path / "notes.md").write_text("mine")
    refused = CliRunner().invoke(command, [str(tmp_path)])
    assert (refused.exit_code, "'m'" in refused.output, "empty folder" in refused.output) == (2, True, True)
    assert not (tmp_path / "config.json").exists()
