"""Every reason that a Model's condition can carry is in the reference, and the reference names no other."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[4]
OPERATOR, CONTROL = ROOT / "operator/penstock_operator", ROOT / "platform/penstock/control"
PAGE = ROOT / "docs/reference/conditions.md"
CAMEL = re.compile(r"(?:[A-Z][a-z]+)+")

SOURCES = {
    *(CONTROL / f"{name}.py" for name in ("conditions", "fit", "prepared", "rollout")),
    OPERATOR / "model/prepare.py",
    OPERATOR / "weights/plan.py",
    *(OPERATOR / "pool" / f"{name}.py" for name in ("clusters", "roster", "troubles", "verdict", "views")),
}
"""Modules that give conditions their reasons."""
NO_REASONS = {
    *("True", "False", "WeightsReady"),
    *("Never", "OnRootMismatch", "RuntimeDefault", "FailJob", "In", "Complete"),  # fields of Jobs
    *("Steady", "Surging", "Retiring", "Failed"),  # phases of a rollout
    *("CreateContainerConfigError", "CreateContainerError", "ErrImagePull", "ImageInspectError", "ImagePullBackOff"),
    *("InvalidImageName", "PodScheduled", "ReplicaFailure", "RunContainerError"),  # Kubernetes' own
}


def in_code():
    constants = (
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return {word for word in constants if CAMEL.fullmatch(word)} - NO_REASONS


def in_page():
    section = PAGE.read_text().split("\n## Model\n", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_the_reference_lists_what_the_code_says():
    assert in_page() == in_code()


def test_the_modules_that_are_read_are_all_that_make_obstacles():
    makers = re.compile(r"\b(?:Obstacle|Statement)\(\s*\w+=")
    folders = [
        *(OPERATOR / "weights").rglob("*.py"),
        *(OPERATOR / "model").rglob("*.py"),
        *(OPERATOR / "pool").rglob("*.py"),
        *CONTROL.glob("*.py"),
    ]
    assert {path for path in folders if makers.search(path.read_text())} <= SOURCES
