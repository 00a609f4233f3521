"""The images' recipes, as far as they can be checked without building them; tests/e2e builds and runs them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RECIPES = sorted(ROOT.glob("*/Dockerfile"))
PIN = re.compile(r"^[\w.\[\]-]+==\S+( ;.*)?$")


@pytest.fixture(params=RECIPES, ids=lambda path: path.parent.name)
def recipe(request):
    return request.param.read_text()


def test_there_is_one_for_each_deployable():
    assert {path.parent.name for path in RECIPES} >= {"gateway", "operator", "platform"}


def test_the_base_may_be_another(recipe):
    assert re.search(r"^ARG BASE=\S+:\S*\d", recipe, re.MULTILINE), "the default is a version, not a moving tag"
    bases = re.findall(r"^FROM (\S+)", recipe, re.MULTILINE)
    assert set(bases) == {"${BASE}", "base"}, "every stage is made of it"


def test_it_runs_as_a_user_with_a_number(recipe):
    users = re.findall(r"^USER (\S+)", recipe, re.MULTILINE)
    assert users == ["65532:65532"], "`runAsNonRoot` cannot check a name"


def test_it_says_what_it_is(recipe):
    assert {"title", "description", "licenses", "version"} <= set(re.findall(r"opencontainers\.image\.(\w+)=", recipe))


def test_it_installs_pins_and_nothing_else(recipe):
    installed = re.findall(r"requirements/([\w.${}-]+\.txt)", recipe)
    assert installed
    for name in {each.replace("${ENGINE}", engine) for each in installed for engine in ("cpu", "gpu")}:
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        assert [line for line in lines if line and not line.startswith("#") and not PIN.match(line)] == [], name
    for command in re.findall(r"pip install[^&\n]*", recipe):
        assert "-r requirements/" in command or "--no-deps" in command


def test_dependencies_come_before_the_source(recipe):
    assert recipe.index("pip sync") < recipe.index("\nCOPY . .")


def test_it_leaves_nothing_behind_and_names_no_index(recipe):
    assert "index" not in recipe
    assert "--no-cache-dir" in recipe
    assert "UV_NO_CACHE=1" in recipe
    assert recipe.count("rm -rf /var/lib/apt/lists/*") >= 1
