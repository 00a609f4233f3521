"""The chart's values: documented, described by a closed schema, and valid as they are."""

import importlib.util
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "penstock"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
PERMUTATIONS = sorted((CHART / "ci").glob("*-values.yaml"))


def hook():
    """The module that makes the reference; it is no package's."""
    spec = importlib.util.spec_from_file_location("chart_hook", ROOT / "docs" / "hooks" / "chart.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOCUMENTED = {value.path: value for value in hook().documented_values((CHART / "values.yaml").read_text())}


def closed(schema):
    """Whether a part of the schema names its keys; the others are handed through to Kubernetes."""
    return schema.get("type") == "object" and schema.get("additionalProperties") is False


def paths(values, schema, at=""):
    """Every key of the values, down to what is handed through."""
    for name, value in values.items():
        path = f"{at}.{name}" if at else name
        inner = schema.get("properties", {}).get(name)
        if isinstance(value, dict) and inner is not None and closed(inner) and name != "resources":
            yield from paths(value, inner, path)
        else:
            yield path


def described(schema, at=""):
    """Every key of the schema with its part of it, in the same way."""
    for name, inner in schema["properties"].items():
        path = f"{at}.{name}" if at else name
        if closed(inner) and name != "resources":
            yield from described(inner, path)
        else:
            yield path, inner


def merged(base, over):
    result = dict(base)
    for name, value in over.items():
        result[name] = (
            merged(base[name], value) if isinstance(value, dict) and isinstance(base.get(name), dict) else value
        )
    return result


def errors(values):
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(values)]


def test_the_schema_is_one():
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_values_and_schema_have_the_same_keys():
    assert set(paths(VALUES, SCHEMA)) == {path for path, _ in described(SCHEMA)} - {"global"}


def test_every_value_has_a_description_that_the_schema_repeats():
    in_schema = {path: part.get("description") for path, part in described(SCHEMA) if path != "global"}
    assert in_schema == {path: DOCUMENTED[path].description if path in DOCUMENTED else None for path in in_schema}
    assert None not in in_schema.values()


def test_the_defaults_are_valid():
    assert errors(VALUES) == []


@pytest.mark.parametrize("file", PERMUTATIONS, ids=lambda file: file.stem)
def test_the_permutations_are_valid(file):
    assert errors(merged(VALUES, yaml.safe_load(file.read_text()))) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operator": {"replicsa": 3}}, "replicsa"),
        ({"gateway": {"replicas": 0}}, "minimum"),
        ({"gateway": {"image": {"tag": "latest"}}}, "latest"),
        ({"engine": {"image": {"digest": "sha256:abc"}}}, "sha256"),
        ({"rbac": {"namespaces": ["Chat"]}}, "Chat"),
        ({"redis": {"maxmemory": "1Gi"}}, "1Gi"),
        ({"gateway": {"service": {"type": "External"}}}, "External"),
        ({"podSecurity": {"runAsUser": 0}}, "minimum"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, message):
    found = errors(merged(VALUES, change))
    assert len(found) == 1
    assert message in found[0]


def test_the_reference_names_every_value():
    page = hook().on_page_markdown("<!-- chart -->")
    assert all(f"| `{path}` |" in page for path in DOCUMENTED)
