"""Writes the chart's reference from its values.yaml while the site is built: it cannot fall behind it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

MARKER = "<!-- chart -->"
VALUES = Path(__file__).parents[2] / "helm" / "penstock" / "values.yaml"
_COMMENT = re.compile(r"^\s*# -- (?P<text>.+)$")
_KEY = re.compile(r"^(?P<indent> *)(?P<name>\w+):")


class Value(NamedTuple):
    """One value that a user may set."""

    path: str
    default: Any
    description: str


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marker by the tables of all values."""
    return markdown.replace(MARKER, "\n".join(_tables())) if MARKER in markdown else markdown


def documented_values(text: str) -> Iterator[Value]:
    """Yield every key that has a comment `# --` above it, in the file's order.

    Args:
        text: A values.yaml, indented by two spaces.
    """
    values = yaml.safe_load(text)
    path: list[str] = []
    description = None
    for line in text.splitlines():
        if comment := _COMMENT.match(line):
            description = comment["text"]
        elif key := _KEY.match(line):
            path[len(key["indent"]) // 2 :] = [key["name"]]
            if description is not None:
                yield Value(".".join(path), _at(values, path), description)
            description = None


def _tables() -> Iterator[str]:
    group = None
    for value in documented_values(VALUES.read_text()):
        head = value.path.partition(".")[0] if "." in value.path else "Top level"
        if head != group:
            group = head
            yield f"\n## {group}\n\n| value | default | meaning |\n|---|---|---|"
        yield f"| `{value.path}` | `{json.dumps(value.default)}` | {_cell(value.description)} |"


def _at(values: Any, path: list[str]) -> Any:
    for name in path:
        values = values[name]
    return values


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
