"""Publishes routing in a control plane as the operator does: ConfigMaps and EndpointSlices, written by hand."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.routing.published import (
    CONFIG_KEY,
    CONFIG_MAP,
    MANAGED_BY,
    MODEL_LABEL,
    VARIANT_ANNOTATION,
    WEIGHT_ANNOTATION,
    NamespaceRouting,
    encode_routing,
)
from penstock.routing.snapshot import ServedModel
from tests.support.control_plane import ControlPlane

READY = {"ready": True, "serving": True}
DRAINING = {"ready": False, "serving": True, "terminating": True}
GONE = {"ready": False, "serving": False}


def own_address() -> str:
    """Return an address of this machine that is not loopback: Kubernetes allows no other in an EndpointSlice."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])


@dataclass
class Namespace:
    """A fresh namespace of a control plane."""

    plane: ControlPlane
    name: str = field(default_factory=lambda: f"models-{secrets.token_hex(4)}")

    def create(self) -> Namespace:
        self.plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})
        return self

    def publish(self, routing: NamespaceRouting | str | None = None) -> None:
        """Write the routing ConfigMap: one model named like the namespace when nothing is said, or a text as it is."""
        if routing is None:
            routing = NamespaceRouting(models=(ServedModel(name=self.name),))
        text = routing if isinstance(routing, str) else encode_routing(routing)
        self.plane.apply(
            f"/api/v1/namespaces/{self.name}/configmaps",
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP}, "data": {CONFIG_KEY: text}},
        )

    def slice(
        self,
        port: int,
        replicas: Mapping[str, Mapping[str, bool]] | Sequence[str],
        *,
        name: str = "slice",
        model: str | None = None,
        variant: str = "v",
        weight: str | None = None,
        address: str | None = None,
    ) -> None:
        """Write an EndpointSlice with the conditions of each replica; ready ones when only names are given."""
        states = replicas if isinstance(replicas, Mapping) else dict.fromkeys(replicas, READY)
        annotations = {VARIANT_ANNOTATION: variant} | ({} if weight is None else {WEIGHT_ANNOTATION: weight})
        body: dict[str, Any] = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "labels": {
                    "endpointslice.kubernetes.io/managed-by": MANAGED_BY,
                    MODEL_LABEL: model or self.name,
                },
                "annotations": annotations,
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port}],
            "endpoints": [
                {"hostname": replica, "addresses": [address or own_address()], "conditions": dict(conditions)}
                for replica, conditions in states.items()
            ],
        }
        self.plane.apply(f"/apis/discovery.k8s.io/v1/namespaces/{self.name}/endpointslices", body)

    def clear(self) -> None:
        """Take back all that was published."""
        for path in (
            f"/apis/discovery.k8s.io/v1/namespaces/{self.name}/endpointslices",
            f"/api/v1/namespaces/{self.name}/configmaps",
        ):
            self.plane.call("DELETE", path)

    def delete_slice(self, name: str = "slice") -> None:
        self.plane.call("DELETE", f"/apis/discovery.k8s.io/v1/namespaces/{self.name}/endpointslices/{name}")

    def delete_routing(self) -> None:
        self.plane.call("DELETE", f"/api/v1/namespaces/{self.name}/configmaps/{CONFIG_MAP}")
