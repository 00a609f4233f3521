"""Finalizers: an object stays, marked for deletion, until our clean-up is done."""

from __future__ import annotations

from penstock_kube.client import KubeClient
from penstock_kube.errors import NotFoundError
from penstock_kube.resources import Kind, Object, key_of


def is_deleting(obj: Object) -> bool:
    """Return whether somebody has asked for the object's deletion."""
    return "deletionTimestamp" in obj["metadata"]


def has_finalizer(obj: Object, finalizer: str) -> bool:
    """Return whether the object waits for this finalizer."""
    return finalizer in obj["metadata"].get("finalizers", [])


async def add_finalizer(client: KubeClient, kind: Kind, obj: Object, finalizer: str) -> Object:
    """Return the object with the finalizer, written if it was missing.

    Raises:
        ConflictError: the object changed since it was read.
    """
    if has_finalizer(obj, finalizer):
        return obj
    return await _write(client, kind, obj, [*obj["metadata"].get("finalizers", []), finalizer])


async def remove_finalizer(client: KubeClient, kind: Kind, obj: Object, finalizer: str) -> None:
    """Let the object go as far as we are concerned; one that is gone already is no error.

    Raises:
        ConflictError: the object changed since it was read.
    """
    if not has_finalizer(obj, finalizer):
        return
    rest = [name for name in obj["metadata"]["finalizers"] if name != finalizer]
    try:
        await _write(client, kind, obj, rest)
    except NotFoundError:
        return


async def _write(client: KubeClient, kind: Kind, obj: Object, finalizers: list[str]) -> Object:
    """Replace the list, if nobody else changed the object: a merge patch overwrites lists whole."""
    namespace, name = key_of(obj)
    metadata = {"finalizers": finalizers, "resourceVersion": obj["metadata"]["resourceVersion"]}
    return await client.merge_patch(kind, namespace, name, {"metadata": metadata})
