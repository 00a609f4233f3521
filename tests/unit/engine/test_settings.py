"""A replica's arguments are checked while Serve builds the application, before any engine starts."""

import subprocess
import sys
from typing import Any

import pytest

from penstock_engine.errors import EngineError
from penstock_engine.settings import parse_settings


def test_defaults():
    settings = parse_settings({"argv": ["--model", "hf://org/name"]})
    assert (settings.revision, settings.hang_after_s, settings.exit_grace_s) == ("", 60.0, 0.5)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, ["argv"]),
        ({"argv": []}, ["argv"]),
        ({"argv": "--model x"}, ["argv", "str"]),
        ({"argv": ["--enforce-eager"]}, ["--model"]),
        ({"argv": ["--model", "ftp://host/x"]}, ["ftp://"]),
        ({"argv": ["--model=oci://host/x"]}, ["oci://host/x"]),
        ({"argv": ["--model", "x"], "hang_after_s": 0}, ["hang_after_s"]),
        ({"argv": ["--model", "x"], "hang_afer_s": 5}, ["hang_afer_s"]),
    ],
)
def test_an_error_names_the_argument(args: dict[str, Any], words: list[str]):
    with pytest.raises(EngineError) as caught:
        parse_settings(args)
    for word in words:
        assert word in str(caught.value)


def _run(script: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    ).stdout


def test_serve_is_told_in_built_in_exceptions():
    script = (
        "from penstock_engine.deployment import build\n"
        "try: build({'argv': ['--enforce-eager']})\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    told = _run(script)
    assert told.startswith("ValueError ")
    assert "--model" in told


def test_building_imports_no_engine():
    script = (
        "import sys; from penstock_engine.deployment import build; build({'argv': ['--model', '/x']});"
        "print([name for name in ('vllm', 'torch', 'transformers') if name in sys.modules])"
    )
    assert _run(script).strip() == "[]"
