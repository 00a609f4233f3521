"""What pydantic finds wrong, said with the field, the value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from penstock.api.document import Document, dotted, split_path
from penstock.api.errors import Problem
from penstock.api.meta import Resource


def explain(document: Document, kind: type[Resource], details: ErrorDetails) -> Problem:
    """Turn one of pydantic's errors into a problem with file, line, field and remedy."""
    path: tuple[str | int, ...] = details["loc"]
    context: dict[str, Any] = details.get("ctx", {})
    given = details["input"]
    secret = kind.KIND == "Secret" or (path[:2] == ("spec", "env") and path[-1:] == ("value",))
    match details["type"]:
        case "extra_forbidden":
            message = _unknown_field(kind, path)
        case "missing":
            message = "is missing: it has no default"
        case "rule":
            path += split_path(context["field"])
            message = context["message"]
        case "enum" | "literal_error":
            message = f"{given!r} is unknown: {suggest(given, _choices(context['expected']))}"
        case "quantity" | "decimal" | "float" | "name" | "source":
            message = details["msg"]
        case _:
            shown = "" if secret or isinstance(given, dict | list) else f" {given!r}"
            rule = details["msg"].replace("Input should", "it should").replace("String should", "it should")
            message = f"the value{shown} is refused: {rule}"
    return Problem(document.file, document.line_of(path), dotted(path), message)


def _choices(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").replace("'", "").split(", ")


def _unknown_field(kind: type[BaseModel], path: Sequence[str | int]) -> str:
    """Say that a field is unknown and which known one may be meant."""
    *parents, name = path
    owner: type[BaseModel] | None = kind
    for step in parents:
        owner = _field_type(owner, step) if isinstance(step, str) and owner is not None else owner
    known = [] if owner is None else [info.alias or attribute for attribute, info in owner.model_fields.items()]
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    if not close:
        return f"unknown field: remove it; known here are {', '.join(known)}"
    return f"unknown field, did you mean {dotted((*parents, close[0]))}?"


def _field_type(owner: type[BaseModel], alias: str) -> type[BaseModel] | None:
    """Return the object type that a field holds, itself or as its items."""
    for attribute, info in owner.model_fields.items():
        if (info.alias or attribute) == alias:
            return next(_object_types(info.annotation), None)
    return None


def _object_types(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (tuple, list, Union, UnionType):
        for argument in get_args(annotation):
            yield from _object_types(argument)


def suggest(given: object, known: Iterable[str]) -> str:
    """Return a question for the name that may have been meant, or the list of those there are."""
    names = list(known)
    lowered = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(given).lower(), lowered, n=1, cutoff=0.6)
    return f"did you mean {lowered[close[0]]}?" if close else f"use one of {', '.join(names)}"
