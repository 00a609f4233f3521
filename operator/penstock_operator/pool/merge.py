"""A user's pod template merged over ours, as `kubectl patch --type strategic` merges what pods have. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}
"""What tells the items of a list apart; lists that are not here are replaced whole."""
_ADDED: Final = frozenset({"tolerations"})
"""Lists that are added to: those of the accelerator class must stay."""


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid over it; null removes a field."""
    result = dict(base)
    for name, value in over.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged_value(name, result.get(name), value)
    return result


def _merged_value(name: str, old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return merged(old, new)
    if isinstance(old, list) and isinstance(new, list):
        if name in _ADDED:
            return [*old, *(item for item in new if item not in old)]
        if name in _KEYS:
            return _merged_items(_KEYS[name], old, new)
    return new


def _merged_items(key: str, old: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    result = list(old)
    places = {item[key]: index for index, item in enumerate(result) if isinstance(item, Mapping) and key in item}
    for item in new:
        known = item.get(key) if isinstance(item, Mapping) else None
        # What can be no name is for the API server to refuse.
        place = places.get(known) if isinstance(known, (str, int)) else None
        if place is None:
            result.append(item)
        else:
            result[place] = merged(result[place], item)
    return result
