"""The API server's rules and the resource types refuse the same things, with the same remedy."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.api import ManifestError, parse_resource, parse_source
from penstock.api.crd.rules import ACCELERATOR_PATTERN, RULES, SOURCE_PATTERN, Rule, add_rules
from tests.unit.crd.cases import CASES, MODEL, resource

ALIVE = {("Model.spec.task", 0)}
"""Rules on a change, which a single object cannot break."""


def test_every_rule_has_a_case():
    rules = {(place, number) for place, rules in RULES.items() for number in range(len(rules))}
    assert {(case.place, case.number) for case in CASES} == rules - ALIVE


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_types_accept_what_keeps_a_rule(case):
    parse_resource(resource(case.kind, case.kept))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_types_refuse_what_breaks_a_rule_with_the_same_remedy(case):
    with pytest.raises(ManifestError) as caught:
        parse_resource(resource(case.kind, case.broken, case.name))
    assert case.remedy in str(caught.value)


SCHEMES = st.sampled_from(["hf", "pvc", "s3", "gs", "oci", "file", "tiny", "http", "HF", ""])
SOURCES = st.builds("{}{}{}".format, SCHEMES, st.sampled_from(["://", ":/", ""]), st.text("aB1/@.:- \n", max_size=8))


@given(source=SOURCES)
@example(source="hf://a/b@")
@example(source="hf://a/b@main@x")
@example(source="file:////")
@example(source="file://./weights")
@example(source="tiny://llama")
def test_the_pattern_of_sources_is_the_parser(source):
    try:
        parse_source(source)
        valid = True
    except ValueError:
        valid = False
    assert (re.fullmatch(SOURCE_PATTERN, source) is not None) == valid


@given(name=st.sampled_from(["cpu", "nvidia-h100", "a.b", "A", "-a", ""]), count=st.integers(-2, 5000))
def test_the_pattern_of_accelerators_is_the_parser(name, count):
    accelerator = f"{name}:{count}"
    try:
        parse_resource(resource("Model", {**MODEL, "accelerator": accelerator}))
        valid = True
    except ManifestError:
        valid = False
    assert (re.fullmatch(ACCELERATOR_PATTERN, accelerator) is not None) == valid


def test_a_rule_whose_field_is_gone_is_found_out():
    with pytest.raises(LookupError, match="no such field"):
        add_rules("Tenant", {"properties": {"spec": {"properties": {}}}})


def test_a_message_with_quotes_is_quoted():
    schema = Rule("false", "it's %s", ("self",)).as_schema()
    assert schema["messageExpression"] == r"'it\'s %s'.format([self])"
