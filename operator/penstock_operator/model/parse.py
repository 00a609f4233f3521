"""Objects of a mirror as resource types, each generation parsed once."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, TypeVar

from penstock.api.errors import ManifestError
from penstock.api.load import parse_resource
from penstock.api.meta import Resource
from penstock.api.scaling import ScalingMode
from penstock_kube.resources import Key, Object, key_of

_MOST_ENTRIES = 20_000
_R = TypeVar("_R", bound=Resource)


class Parser:
    """Parses objects and remembers the last generation of each, that it cannot be parsed among it.

    A change of labels, annotations or status is no new generation: what is returned then carries the old ones.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, Key], tuple[tuple[str, int], Resource | str]] = OrderedDict()

    def parse(self, kind: type[_R], obj: Object) -> _R:
        """Return an object as a resource.

        Raises:
            UnparsableError: it is not valid; the message names each field and remedy.
        """
        key = (kind.KIND, key_of(obj))
        metadata = obj["metadata"]
        version = (str(metadata.get("uid", "")), int(metadata.get("generation") or 0))
        known = self._known.get(key)
        if known is None or known[0] != version:
            known = self._known[key] = (version, _parse(kind, obj))
        self._known.move_to_end(key)
        while len(self._known) > _MOST_ENTRIES:
            self._known.popitem(last=False)
        found = known[1]
        if isinstance(found, kind):
            return found
        raise UnparsableError(str(found))


class UnparsableError(ValueError):
    """An object that the API server has and the resource types refuse, as after a change of the definitions."""


def _parse(kind: type[Resource], obj: Object) -> Resource | str:
    try:
        resource = parse_resource({**obj, "spec": _within_bounds(obj.get("spec")), "status": None})
    except ManifestError as error:
        return "; ".join(
            f"{problem.field}: {problem.message}" if problem.field else problem.message for problem in error.problems
        )
    return resource if isinstance(resource, kind) else f"kind: is {resource.KIND}, not {kind.KIND}"


def _within_bounds(spec: Any) -> Any:
    """Return a Model's spec without a number of replicas that its bounds, moved since it was written, do not allow."""
    try:
        scaling, replicas = spec["scaling"], spec["replicas"]
        if scaling["mode"] != ScalingMode.PRESSURE or scaling["minReplicas"] <= replicas <= scaling["maxReplicas"]:
            return spec
        return {**spec, "replicas": min(max(replicas, scaling["minReplicas"]), scaling["maxReplicas"])}
    except (KeyError, TypeError):
        return spec  # another kind, or nothing that can be read: whoever parses it says so
