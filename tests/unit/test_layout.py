"""The folders `platform` and `operator` carry standard-library names: none may become a package."""

import operator
import platform
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("platform", "operator", "gateway", "loadtest")


def test_top_level_folders_are_not_packages():
    assert [folder for folder in FOLDERS if (ROOT / folder / "__init__.py").exists()] == []


def test_tests_live_in_the_tests_folder_only():
    strays = [
        path
        for folder in FOLDERS
        for pattern in ("test_*.py", "conftest.py")
        for path in (ROOT / folder).rglob(pattern)
    ]
    assert strays == []


def test_the_standard_library_keeps_its_names():
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    assert Path(platform.__file__).parent == stdlib
    assert Path(operator.__file__).parent == stdlib
