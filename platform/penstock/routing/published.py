"""What an operator publishes in a cluster for gateways to route by: the names, labels and forms that both sides use.

People's wishes (models, routes, tenants) stand in one ConfigMap a namespace, which changes when they do. Replicas stand
in EndpointSlices, one for each variant and port, which change when replicas do.
"""

from __future__ import annotations

from typing import Final

import msgspec

from penstock.routing.snapshot import CompiledRoute, CompiledTenant, ServedModel

CONFIG_MAP: Final = "penstock-routing"
"""Name of the ConfigMap, the same in every namespace: a role may grant reading it by name."""
CONFIG_KEY: Final = "routing.json"
"""Its only key: a `NamespaceRouting` as JSON."""

MANAGED_BY: Final = "penstock.dev"
"""Value of the label `endpointslice.kubernetes.io/managed-by` on our EndpointSlices."""
MODEL_LABEL: Final = "penstock.dev/model"
"""Label on EndpointSlices and pods: the Model's name."""
VARIANT_ANNOTATION: Final = "penstock.dev/variant"
"""Annotation on EndpointSlices: the variant's name, which may be longer than a label."""
WEIGHT_ANNOTATION: Final = "penstock.dev/weight"
"""Annotation on EndpointSlices: the variant's share of the model's traffic, absent when no share is set."""
GROUP_LABEL: Final = "penstock.dev/group"
"""Ray label of worker groups, and label of their pods: the group's name, which holds the hash of its template."""


class NamespaceRouting(msgspec.Struct, frozen=True, kw_only=True):
    """The people's part of the routing snapshot, of one namespace.

    An endpoint of a slice is one replica: `hostname` is the replica's id, `addresses[0]` and the slice's one port say
    where it listens; `conditions.ready` false with `serving` true means that it drains.
    """

    models: tuple[ServedModel, ...] = ()
    routes: tuple[CompiledRoute, ...] = ()
    tenants: tuple[CompiledTenant, ...] = ()


def encode_routing(routing: NamespaceRouting) -> str:
    """Return the JSON text that stands in the ConfigMap."""
    return msgspec.json.encode(routing).decode()


def decode_routing(text: str) -> NamespaceRouting:
    """Read the ConfigMap's text.

    Raises:
        msgspec.DecodeError: it is not JSON, or not this; the message names the path.
    """
    return msgspec.json.decode(text, type=NamespaceRouting)
