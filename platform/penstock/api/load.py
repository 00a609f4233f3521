"""YAML files in, typed resources out, with every mistake reported at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.document import Document, document_of, read_documents
from penstock.api.errors import ManifestError, Problem
from penstock.api.explain import explain, suggest
from penstock.api.manifest import KINDS, Location, Manifest, ResourceKey
from penstock.api.meta import Resource
from penstock.api.model import Model
from penstock.api.route import Route
from penstock.api.source import parse_source
from penstock.api.tenant import Secret, Tenant

SUFFIXES = (".yaml", ".yml")
MOST_FILE_BYTES = 1 << 20
"""Of one file. A Model has some hundred; Kubernetes takes objects up to about this."""
_R = TypeVar("_R", bound=Resource)


def load_files(paths: Sequence[Path]) -> Manifest:
    """Read resources from files and folders.

    A folder gives its `*.yaml` and `*.yml` files in the order of their names, not those of folders below it. A relative
    `file://` source is made absolute against the folder of the file that names it.

    Raises:
        ManifestError: a file cannot be read or holds something else than valid resources; every problem is in it.
    """
    problems: list[Problem] = []
    found: dict[ResourceKey, tuple[Resource, Location]] = {}
    for file in _files(paths, problems):
        text = _text(file, problems)
        if text is None:
            continue
        for document in read_documents(file, text, problems):
            resource = _resource(document, problems)
            if resource is not None:
                _add(resource, document, found, problems)
    if problems:
        raise ManifestError(problems)
    return _manifest(found)


def parse_resource(data: Any) -> Resource:
    """Validate one resource given as JSON data, as from a Kubernetes API server.

    Raises:
        ManifestError: it is not a valid resource; the problems name no file.
    """
    problems: list[Problem] = []
    resource = _resource(document_of(data), problems)
    if resource is None:
        raise ManifestError(problems)
    return resource


def _files(paths: Iterable[Path], problems: list[Problem]) -> list[Path]:
    """Return the files to read, each once."""
    files: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(child for child in path.iterdir() if child.suffix in SUFFIXES and child.is_file())
            if not inside:
                problems.append(
                    Problem(path, 0, "", "holds no *.yaml or *.yml file: name a folder that does, or a file")
                )
        elif path.exists():
            inside = [path]
        else:
            problems.append(Problem(path, 0, "", "is not there: check the path"))
            continue
        for file in inside:
            files.setdefault(file.resolve(), file)
    return list(files.values())


def _text(file: Path, problems: list[Problem]) -> str | None:
    """Return a file's content, or None after reporting why there is none."""
    try:
        if not file.is_file():
            reason = "it is no regular file: name a file or a folder"
        else:
            with file.open("rb") as opened:
                content = opened.read(MOST_FILE_BYTES + 1)
            if len(content) <= MOST_FILE_BYTES:
                return content.decode("utf-8")
            reason = f"it is larger than {MOST_FILE_BYTES} bytes: split it into several files"
    except OSError as error:
        reason = str(error.strerror)
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    problems.append(Problem(file, 0, "", f"cannot be read: {reason}"))
    return None


def _resource(document: Document, problems: list[Problem]) -> Resource | None:
    """Validate one document; report what is wrong with it."""
    data = document.data
    if not isinstance(data, dict):
        message = "is not a resource: a document is a mapping with apiVersion, kind, metadata and spec"
        problems.append(Problem(document.file, document.line, "", message))
        return None
    kind = _kind(document, problems)
    if kind is None:
        return None
    try:
        return kind.model_validate_json(json.dumps(data), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        places = [details["loc"] for details in errors]
        problems += [
            explain(document, kind, details)
            for details in errors
            # A list counts as too short without its items that are wrong, which say so themselves.
            if details["type"] != "too_short" or not any(_is_below(place, details["loc"]) for place in places)
        ]
        return None


def _is_below(place: tuple[int | str, ...], above: tuple[int | str, ...]) -> bool:
    return len(place) > len(above) and place[: len(above)] == above


def _kind(document: Document, problems: list[Problem]) -> type[Resource] | None:
    """Return the kind that a document claims to be, or None after reporting why there is none."""
    name, version = document.data.get("kind"), document.data.get("apiVersion")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is not None and version == kind.API_VERSION:
        return kind
    if kind is None:
        given = "is missing" if name is None else f"{name!r} is unknown"
        field, message = "kind", f"{given}: {suggest(name, KINDS)}"
    else:
        given = "is missing" if version is None else f"{version!r} is unknown for {kind.KIND}"
        field, message = "apiVersion", f"{given}: write {kind.API_VERSION}"
    problems.append(Problem(document.file, document.line_of((field,)), field, message))
    return None


def _beside(model: Model, folder: Path) -> Model:
    """Make a Model's relative `file://` sources absolute."""

    def absolute(uri: str) -> str:
        return str(parse_source(uri).beside(folder))

    spec = model.spec
    changes: dict[str, Any] = {}
    if spec.source is not None:
        changes["source"] = absolute(spec.source)
    if spec.adapters:
        changes["adapters"] = tuple(a.model_copy(update={"source": absolute(a.source)}) for a in spec.adapters)
    if spec.speculative is not None and spec.speculative.model is not None:
        changes["speculative"] = spec.speculative.model_copy(update={"model": absolute(spec.speculative.model)})
    return model.model_copy(update={"spec": spec.model_copy(update=changes)})


def _add(
    resource: Resource,
    document: Document,
    found: dict[ResourceKey, tuple[Resource, Location]],
    problems: list[Problem],
) -> None:
    """Put a resource into `found`, or report that its name is taken."""
    key = ResourceKey.of(resource)
    if key in found:
        line = document.line_of(("metadata", "name"))
        message = f"{key} is already defined at {found[key][1]}: rename or remove one of them"
        problems.append(Problem(document.file, line, "metadata.name", message))
        return
    if isinstance(resource, Model):
        resource = _beside(resource, document.file.parent)
    found[key] = (resource, Location(document.file, document.line))


def _manifest(found: dict[ResourceKey, tuple[Resource, Location]]) -> Manifest:
    def of(kind: type[_R]) -> tuple[_R, ...]:
        return tuple(resource for resource, _ in found.values() if isinstance(resource, kind))

    return Manifest(
        models=of(Model),
        accelerator_classes=of(AcceleratorClass),
        routes=of(Route),
        tenants=of(Tenant),
        secrets=of(Secret),
        locations=MappingProxyType({key: location for key, (_, location) in found.items()}),
    )
