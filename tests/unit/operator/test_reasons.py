"""Every reason that a condition may have is in the reference, and nothing else is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "conditions.md"
PACKAGES = {"Route": "route", "Tenant": "tenant", "AcceleratorClass": "accelerator"}
ELSEWHERE = {"Route": {"ModelNotFound"}, "Tenant": {"RouteNotFound", "NotPublished"}, "AcceleratorClass": set()}
"""Reasons that come from `penstock.api.references` and from the publisher."""
NO_REASONS = {"NoSchedule", "NoExecute", "AcceleratorClass", "AdaptersNamed"}


def documented(kind):
    section = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    (text,) = (part for part in section if part.startswith(f"{kind}\n"))
    return set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))


@pytest.mark.parametrize("kind", PACKAGES)
def test_the_reference_has_every_reason(kind):
    files = list((ROOT / "operator" / "penstock_operator" / PACKAGES[kind]).glob("*.py"))
    text = "\n".join(file.read_text() for file in files)
    found = set(re.findall(r'"((?:[A-Z][a-z]+){2,}|Invalid|Routed)"', text)) - NO_REASONS
    assert documented(kind) == found | ELSEWHERE[kind]
