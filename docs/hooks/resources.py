"""Writes the resource reference from the types themselves while the site is built: it cannot fall behind them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from penstock.api import AcceleratorClass, Model, Route, Tenant
from penstock.api.crd.status import status_schema

MARKER = "<!-- resources -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marker by the tables of all kinds."""
    if MARKER not in markdown:
        return markdown
    return markdown.replace(MARKER, "\n".join(_kinds()))


def _kinds() -> Iterator[str]:
    for kind in (Model, AcceleratorClass, Route, Tenant):
        schema = kind.model_json_schema(by_alias=True)
        yield f"\n## {kind.__name__}\n\n{_first_line(schema)}\n"
        yield "| field | type | default | meaning |\n|---|---|---|---|"
        spec = _resolve(schema["properties"]["spec"], schema)
        yield from _rows("spec", spec, schema)
        yield f"\nWhat `{kind.__name__}` says of itself; reasons are in [conditions](conditions.md).\n"
        yield "| field | type | default | meaning |\n|---|---|---|---|"
        yield from _rows("status", status_schema(kind.__name__), {})


def _rows(path: str, node: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    for name, field in node.get("properties", {}).items():
        here = f"{path}.{name}"
        required = name in node.get("required", ())
        default = "required" if required else _default(field)
        inner = _resolve(field, root)
        description = field.get("description") or inner.get("description", "")
        yield f"| `{here}` | {_type(inner, root)} | {default} | {_cell(description)} |"
        if inner.get("type") == "array":
            yield from _rows(f"{here}[]", _resolve(inner.get("items", {}), root), root)
        else:
            yield from _rows(here, inner, root)


def _resolve(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Follow references, and take the one alternative of a union that is not null."""
    while True:
        if "$ref" in node:
            node = root["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        elif "anyOf" in node:
            others = [option for option in node["anyOf"] if option.get("type") != "null"]
            if len(others) != 1:
                return node
            node = others[0]
        else:
            return node


def _type(node: dict[str, Any], root: dict[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if node.get("type") == "array":
        return f"list of {_type(_resolve(node.get('items', {}), root), root)}"
    if "anyOf" in node:
        return " or ".join(_type(_resolve(option, root), root) for option in node["anyOf"])
    return str(node.get("type", "any"))


def _default(field: dict[str, Any]) -> str:
    default = field.get("default")
    return "" if default in (None, [], {}) or isinstance(default, dict) else f"`{default}`"


def _first_line(schema: dict[str, Any]) -> str:
    return str(schema.get("description", "")).split("\n\n")[0]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
