"""Alerts and dashboards ask for metrics and labels that exist: those of the metrics reference."""

import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FILES = ROOT / "helm" / "penstock" / "files"
ROW = re.compile(r"^\| `(penstock_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)
SCRAPED = {"pod", "le"}
"""Labels that Prometheus brings, and that of histograms."""
OF_QUERIES = re.compile(r"(penstock_\w+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|on) \(([^)]*)\)")


def reference():
    known = {}
    for name, kind, labels in ROW.findall((ROOT / "docs" / "reference" / "metrics.md").read_text()):
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        for suffix in suffixes:
            known.setdefault(name + suffix, set()).update(re.findall(r"`(\w+)`", labels))
    return known


def alerts():
    (group,) = yaml.safe_load((FILES / "monitoring" / "rules.yaml").read_text())["groups"]
    return group["rules"]


def queries():
    for rule in alerts():
        yield rule["alert"], rule["expr"]
    for file in (FILES / "dashboards").glob("*.json"):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{file.stem}: {panel['title']}", target["expr"]


@pytest.mark.parametrize(("name", "query"), list(queries()))
def test_a_query_asks_for_what_exists(name, query):
    known = reference()
    found = OF_QUERIES.findall(query)
    assert found
    labels = SCRAPED.copy()
    for metric, selected in found:
        assert metric in known
        assert set(re.findall(r"(\w+)=", selected)) <= known[metric]
        labels |= known[metric]
    for group in GROUPED.findall(query):
        assert set(re.split(r",\s*", group)) <= labels


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_is_and_what_to_do(rule):
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "description"}
    assert rule["annotations"]["description"].endswith(".")


def test_names_are_unique():
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)
    for file in (FILES / "dashboards").glob("*.json"):
        ids = [panel["id"] for panel in json.loads(file.read_text())["panels"]]
        assert len(set(ids)) == len(ids)
