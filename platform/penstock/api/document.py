"""YAML documents as JSON data, with the line of every field."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from penstock.api.errors import Problem

_SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str")}
_MERGE = "tag:yaml.org,2002:merge"
_MOST_VALUES = 100_000
"""What a document may grow to when its aliases are written out: eight lines of them can stand for billions."""


class _Loader(yaml.SafeLoader):
    """Reads dates as the strings they are written as, as Kubernetes does."""


_Loader.yaml_implicit_resolvers = {
    sign: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for sign, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document."""

    file: Path
    data: Any
    """The document as JSON data."""
    node: yaml.Node

    @property
    def line(self) -> int:
        """1-based line on which the document's first field stands."""
        return int(self.node.start_mark.line) + 1

    def line_of(self, path: Sequence[str | int]) -> int:
        """Return the 1-based line of the deepest field along `path` that is written."""
        node, line = self.node, self.line
        for step in path:
            if isinstance(node, yaml.MappingNode):
                pair = next(((k, v) for k, v in _pairs(node) if k.value == step), None)
                if pair is None:
                    break
                line, node = int(pair[0].start_mark.line) + 1, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = int(node.start_mark.line) + 1
            else:
                break
        return line


def read_documents(file: Path, text: str, problems: list[Problem]) -> list[Document]:
    """Parse the YAML documents of one file; empty ones are left out.

    Args:
        file: name for messages.
        text: the file's content.
        problems: gets what is wrong with syntax, tags, keys and repeats; such documents are left out.
    """
    documents: list[Document] = []
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reason = f"the character U+{error.character:04X} may not stand in it: remove it"
        problems.append(Problem(file, line, "", f"is not YAML: {reason}"))
        return documents
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                break
            before = len(problems)
            data = _Reader(loader, file, problems).read(node, ())
            if len(problems) == before and data is not None:
                documents.append(Document(file, data, node))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.problem, error.context and f"({error.context})") if part)
        problems.append(Problem(file, mark.line + 1 if mark else 1, "", f"is not YAML: {reason}"))
    except yaml.YAMLError as error:
        problems.append(Problem(file, 1, "", f"is not YAML: {str(error).splitlines()[0]}"))
    except RecursionError:
        problems.append(Problem(file, 1, "", "is nested too deeply to be read: no resource needs that"))
    finally:
        loader.dispose()
    return documents


def document_of(data: Any) -> Document:
    """Return JSON data that comes from no file as a document, all of it on line 0."""
    mark = yaml.Mark("", 0, -1, 0, None, 0)
    return Document(Path(), data, yaml.ScalarNode("", "", mark, mark))


def _pairs(node: yaml.MappingNode, seen: set[int] | None = None) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Yield a mapping's own pairs, then those it merges in, each mapping once: a repeat could add nothing."""
    seen = {id(node)} if seen is None else seen
    merged: list[yaml.Node] = []
    for key, value in node.value:
        if key.tag == _MERGE:
            merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
        else:
            yield key, value
    for other in merged:
        if isinstance(other, yaml.MappingNode) and id(other) not in seen:
            seen.add(id(other))
            yield from _pairs(other, seen)


class _Reader:
    """Turns nodes into JSON data; a node that aliases share is read once."""

    def __init__(self, loader: _Loader, file: Path, problems: list[Problem]) -> None:
        self._loader = loader
        self._file = file
        self._problems = problems
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()
        self._values = 0
        self._sizes: dict[int, int] = {}

    def read(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        """Return the node's JSON data."""
        if id(node) in self._done:
            return self._again(node, path)
        if id(node) in self._open:
            return self._refuse(node, path, "holds an alias to itself: write the value out")
        self._open.add(id(node))
        before, self._values = self._values, self._values + 1
        data = self._convert(node, path)
        self._open.discard(id(node))
        self._done[id(node)] = data
        self._sizes[id(node)] = self._values - before
        return data

    def _again(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        """Return the data of a node that an alias stands for, unless that makes the document too large."""
        before, self._values = self._values, self._values + self._sizes[id(node)]
        if before <= _MOST_VALUES < self._values:
            message = f"aliases make the document larger than {_MOST_VALUES} values: write out what is needed"
            return self._refuse(node, path, message)
        return self._done[id(node)]

    def _convert(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        if node.tag not in _SCALARS:
            return self._refuse(node, path, f"has the tag {node.tag!r}, which resources do not use: remove it")
        try:
            return self._loader.construct_object(node)
        except (ValueError, OverflowError, yaml.YAMLError):
            return self._refuse(node, path, f"{node.value!r} is not a value of its kind: write it in quotes")

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[Hashable, Any]:
        data: dict[Hashable, Any] = {}
        own = {id(key) for key, _ in node.value}
        lines: dict[str, int] = {}
        for key, value in _pairs(node):
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                self._refuse(key, path, f'the key {shown} is not a string: write it in quotes, "{shown}"')
                continue
            line = int(key.start_mark.line) + 1
            if key.value in lines:
                if id(key) in own:
                    self._refuse(
                        key, (*path, key.value), f"is given twice, first on line {lines[key.value]}: keep one of them"
                    )
                continue
            lines[key.value] = line
            data[key.value] = self.read(value, (*path, key.value))
        return data

    def _refuse(self, node: yaml.Node, path: tuple[str | int, ...], message: str) -> None:
        self._problems.append(Problem(self._file, int(node.start_mark.line) + 1, dotted(path), message))


def dotted(path: Sequence[str | int]) -> str:
    """Return a field path as people write it: `spec.accelerators[0].class`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def split_path(field: str) -> tuple[str | int, ...]:
    """Return the steps of a dotted field path."""
    return tuple(int(i) if i else n for i, n in re.findall(r"\[(\d+)\]|([^.\[\]]+)", field))
