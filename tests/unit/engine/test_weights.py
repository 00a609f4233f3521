"""Weights are found, or the error says where they were sought and what to do."""

import json
from pathlib import Path

import pytest

from penstock_engine.weights import Weights, WeightsError, resolve, resolve_adapter, split_uri


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_a_folder_is_itself(model_folder: Path):
    assert resolve(str(model_folder)) == Weights(model=str(model_folder))


def test_a_file_uri_is_its_folder(model_folder: Path):
    assert resolve(model_folder.as_uri()) == Weights(model=str(model_folder))


def test_a_claim_is_found_where_it_is_mounted(model_folder: Path):
    claim = model_folder.parent / "claim"
    claim.mkdir()
    model_folder.rename(claim / "llama")
    assert resolve("pvc://claim/llama", pvc_root=claim.parent) == Weights(model=str(claim / "llama"))


@pytest.mark.parametrize(("name", "architecture"), [("llama", "LlamaForCausalLM"), ("llama-embed", "LlamaModel")])
def test_a_tiny_model_is_made_in_a_folder_of_its_own(tmp_path: Path, name: str, architecture: str):
    folders = [Path(resolve(f"tiny://{name}", downloads=tmp_path).model) for _ in range(2)]
    assert folders[0] != folders[1]
    for folder in folders:
        assert json.loads((folder / "config.json").read_text())["architectures"] == [architecture]
        assert resolve(str(folder)).model == str(folder)


@pytest.mark.parametrize(
    ("uri", "weights"),
    [
        ("hf://org/name", Weights(model="org/name")),
        ("hf://org/name@v1.2", Weights(model="org/name", revision="v1.2")),
        ("org/name", Weights(model="org/name")),
        ("gpt2", Weights(model="gpt2")),
    ],
)
def test_a_hub_id_is_left_to_the_engine(uri: str, weights: Weights):
    assert resolve(uri) == weights


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("file:///no/such/folder", ["/no/such/folder", "mounted"]),
        ("file://host/folder", ["file://host/folder", "three slashes"]),
        ("hf://", ["hf://organisation/name"]),
        ("hf://org/name@", ["hf://organisation/name@revision"]),
        ("hf://a/b/c", ["hf://a/b/c"]),
        ("pvc://claim/x", ["'claim'", "not mounted", "PersistentVolumeClaim"]),
        ("pvc://claim/../x", ["pvc://claim/../x", "'..'"]),
        ("pvc:///x", ["pvc:///x", "missing"]),
        ("s3://", ["s3://", "missing"]),
        ("s3://bucket/x", ["s3://bucket/x", "runai-model-streamer", "s3fs", "pvc://"]),
        ("gs://bucket/x", ["gcsfs"]),
        ("oci://registry/image", ["oci://registry/image", "pvc://"]),
        ("tiny://mistral", ["tiny://mistral", "tiny://llama"]),
        ("ftp://host/x", ["ftp://", "hf://"]),
    ],
)
def test_an_error_names_the_uri_and_the_remedy(uri: str, words: list[str], tmp_path: Path):
    with pytest.raises(WeightsError) as caught:
        resolve(uri, pvc_root=tmp_path)
    for word in words:
        assert word in str(caught.value)


def test_an_incomplete_folder_is_named_with_what_it_lacks(model_folder: Path):
    (model_folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no \*\.safetensors in .*a model"):
        resolve(str(model_folder))
    (model_folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"no config\.json in .*a model"):
        resolve(str(model_folder))


def test_a_file_in_place_of_a_folder_is_refused(model_folder: Path):
    with pytest.raises(WeightsError, match="is a file"):
        resolve(str(model_folder / "config.json"))


def test_an_adapter_needs_its_configuration(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"adapter_config\.json"):
        resolve_adapter(tmp_path.as_uri())
    (tmp_path / "adapter_config.json").write_text("{}")
    assert resolve_adapter(tmp_path.as_uri()) == str(tmp_path)
    assert resolve_adapter("hf://org/adapter") == "org/adapter"
    with pytest.raises(WeightsError, match="not s3://"):
        resolve_adapter("s3://bucket/adapter")


def test_splitting_looks_at_nothing():
    assert split_uri("pvc://claim/deep/path") == ("pvc", "claim/deep/path")
    assert split_uri("/folder") == ("file", "/folder")
