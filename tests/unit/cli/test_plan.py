import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from penstock.cli.plan import command

SAMPLES = Path(__file__).parents[3] / "manifests" / "samples"
CONFIG = {
    "num_hidden_layers": 2,
    "hidden_size": 128,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
}


def plan(*args: object):
    return CliRunner().invoke(command, [str(arg) for arg in args])


def write(folder: Path, source: str, accelerator: str = "nvidia-h100:1") -> Path:
    file = folder / "model.yaml"
    head = "apiVersion: penstock.dev/v1alpha1\nkind: Model\nmetadata: {name: m}\n"
    file.write_text(f"{head}spec: {{{source}, accelerator: '{accelerator}'}}\n", encoding="utf-8")
    return file


def test_a_model_that_fits_prints_its_budget():
    result = plan(SAMPLES / "llama-3-1-8b.yaml")
    assert result.exit_code == 0
    assert "14.96 GiB" in result.output
    assert "131,072 wanted, 131,072 at most" in result.output


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("tiny*.yaml")))
def test_the_tiny_samples_fit(sample):
    assert plan(sample).exit_code == 0


def test_a_model_that_does_not_fit_exits_with_2_and_says_what_to_change(tmp_path):
    result = plan(write(tmp_path, "preset: llama-3.1-70b"))
    assert result.exit_code == 2
    assert "set spec.accelerator to nvidia-h100:4" in result.output


def test_json_has_the_numbers(tmp_path):
    result = plan(SAMPLES / "llama-3-1-8b.yaml", "--output", "json", "--prompt-tokens", 4000, "--output-tokens", 1000)
    (row,) = json.loads(result.output)
    assert row["cache"]["bytesPerToken"] == 131_072
    assert row["concurrency"]["worst"] == row["cache"]["tokens"] // 5008


def test_a_local_folder_is_planned_from_its_own_config(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    result = plan(write(tmp_path, "source: 'file://./w'"), "--output", "json")
    assert result.exit_code == 0
    assert json.loads(result.output)[0]["cache"]["bytesPerToken"] == 2 * 2 * 128 * 2


@pytest.mark.parametrize(
    ("source", "accelerator", "message"),
    [
        ("source: 'file://./none'", "nvidia-h100:1", "check that file://"),
        ("source: 'hf://nobody/unknown'", "nvidia-h100:1", "the catalog does not know hf://nobody/unknown"),
        ("preset: none", "nvidia-h100:1", "preset 'none' is not in the catalog"),
        ("preset: phi-4", "nvidia-h1000:1", "there is no AcceleratorClass 'nvidia-h1000'"),
    ],
)
def test_what_cannot_be_planned_is_told(tmp_path, source, accelerator, message):
    result = plan(write(tmp_path, source, accelerator))
    assert result.exit_code == 2
    assert message in result.output


def test_a_bad_file_is_told_line_by_line(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(
        "apiVersion: penstock.dev/v1alpha1\nkind: Model\nmetadata: {name: m}\nspec: {scalling: 1}\n", encoding="utf-8"
    )
    result = plan(file)
    assert result.exit_code == 2
    assert f"{file}:4: spec.scalling: unknown field, did you mean spec.scaling?" in result.output


def test_no_model_is_told():
    result = plan(SAMPLES / "tenants-and-routes.yaml")
    assert result.exit_code == 2
    assert "no Model in" in result.output
