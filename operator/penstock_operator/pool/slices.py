"""EndpointSlices: where gateways find a pool's replicas. Pure.

One slice for each variant and port, so that the slice's port is right for every endpoint in it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from penstock.control.replicas import Life
from penstock.routing.published import MANAGED_BY, MODEL_LABEL, VARIANT_ANNOTATION, WEIGHT_ANNOTATION
from penstock.scaling.snapshot import ReplicaPhase
from penstock.serve.plan import contains
from penstock_kube.resources import Object, key_of
from penstock_operator.pool.names import digest, slug

MANAGED_BY_LABEL: Final = "endpointslice.kubernetes.io/managed-by"
_MOST_ENDPOINTS = 1000
"""The API server takes no more in one slice."""


class SlicePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to write so that gateways know what is known here."""

    apply: tuple[Mapping[str, Any], ...]
    """In this order: gateways hear of what may have more before they hear of what may have less."""
    delete: tuple[Object, ...]

    @property
    def is_empty(self) -> bool:
        """Whether gateways know all already."""
        return not self.apply and not self.delete


def wanted_slices(
    namespace: str, lives: Iterable[Life], leaving: frozenset[str], weights: Mapping[str, int | None]
) -> dict[str, dict[str, Any]]:
    """Return the slices of a pool by name.

    Args:
        namespace: The pool's.
        lives: Its replicas; those without an address are not published yet.
        leaving: Replicas that are about to be stopped: they finish what they have and get nothing new.
        weights: Share of its model's traffic by variant; None or absent for none that is set.
    """
    slices: dict[str, dict[str, Any]] = {}
    for life in sorted(lives, key=lambda life: life.id):
        if life.phase is ReplicaPhase.STARTING or life.address is None or life.port is None:
            continue
        name = f"penstock-{slug(life.model)}-{digest([life.variant, life.port, _family(life.address)])}"
        if name not in slices:
            slices[name] = _slice(namespace, name, life, weights.get(life.variant))
        if len(slices[name]["endpoints"]) < _MOST_ENDPOINTS:
            slices[name]["endpoints"].append(_endpoint(life, life.id in leaving))
    return slices


def plan_slices(wanted: Mapping[str, Mapping[str, Any]], current: Iterable[Object]) -> SlicePlan:
    """Return what to write, given the slices of the namespace that are ours."""
    found = {key_of(item).name: item for item in current}
    changed = [(found.get(name), body) for name, body in wanted.items() if not _is_applied(found.get(name), body)]
    changed.sort(key=lambda change: _offer(change[0]) > _offer(change[1]))
    return SlicePlan(
        apply=tuple(body for _, body in changed),
        delete=tuple(item for name, item in found.items() if name not in wanted),
    )


def published(current: Iterable[Object]) -> dict[str, tuple[str, str]]:
    """Return model and variant of each replica that slices name, by replica id."""
    return {
        endpoint["hostname"]: (
            item["metadata"].get("labels", {}).get(MODEL_LABEL, ""),
            item["metadata"].get("annotations", {}).get(VARIANT_ANNOTATION, ""),
        )
        for item in current
        for endpoint in item.get("endpoints") or ()
        if endpoint.get("hostname")
    }


def _offer(item: Object | None) -> tuple[bool, int]:
    """Return what a slice has to give: whether it may have new requests at all, and how many replicas may."""
    if item is None:
        return (False, 0)
    ready = sum(endpoint["conditions"]["ready"] for endpoint in item.get("endpoints") or ())
    return (ready > 0 and (item["metadata"].get("annotations") or {}).get(WEIGHT_ANNOTATION) != "0", ready)


def _is_applied(found: Object | None, wanted: Mapping[str, Any]) -> bool:
    if found is None or not all(contains(found.get(part), wanted[part]) for part in ("ports", "endpoints")):
        return False
    metadata = wanted["metadata"]
    notes = found["metadata"].get("annotations") or {}
    return (
        contains(found["metadata"].get("labels") or {}, metadata["labels"])
        and notes.get(VARIANT_ANNOTATION) == metadata["annotations"][VARIANT_ANNOTATION]
        and notes.get(WEIGHT_ANNOTATION) == metadata["annotations"].get(WEIGHT_ANNOTATION)
    )


def _slice(namespace: str, name: str, life: Life, weight: int | None) -> dict[str, Any]:
    notes = {VARIANT_ANNOTATION: life.variant}
    if weight is not None:
        notes[WEIGHT_ANNOTATION] = str(weight)
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, MODEL_LABEL: life.model},
            "annotations": notes,
        },
        "addressType": _family(life.address or ""),
        "ports": [{"name": "http", "port": life.port, "protocol": "TCP"}],
        "endpoints": [],
    }


def _endpoint(life: Life, is_leaving: bool) -> dict[str, Any]:
    drains = life.phase is ReplicaPhase.DRAINING or is_leaving
    return {
        "addresses": [life.address],
        "hostname": life.id,
        "conditions": {"ready": not drains, "serving": True, "terminating": drains},
    }


def _family(address: str) -> str:
    return f"IPv{ipaddress.ip_address(address).version}"
