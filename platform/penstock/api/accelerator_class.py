"""AcceleratorClass: a kind of accelerator that Models may ask for by name, with its figures and its price."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import Field

from penstock.api.meta import API_VERSION, ApiObject, ApiVersion, Resource, Text
from penstock.api.quantity import Money, Quantity


class Purchase(StrEnum):
    """How an accelerator is bought."""

    ON_DEMAND = "OnDemand"
    SPOT = "Spot"


class Price(ApiObject):
    """What one accelerator of the class costs for an hour."""

    on_demand_per_hour: Money
    """Price of one accelerator for one hour, bought on demand, in `currency`; a quoted decimal such as "2.99"."""
    spot_per_hour: Money | None = None
    """Price of one accelerator for one hour, interruptible, in `currency`; left out when it cannot be bought so."""
    currency: Literal["USD"] = "USD"
    """Currency of the prices, an ISO 4217 code. Ledgers and reports are in US dollars."""
    source: Text | None = None
    """Who asks this price: a provider, an invoice or a price page."""
    date: dt.date | None = None
    """Day on which the source asked this price, YYYY-MM-DD."""


class AcceleratorClassSpec(ApiObject):
    """Figures, price and place of an accelerator."""

    vendor: Text
    """Who makes it: `nvidia`, `amd`, `google`; `cpu` for no accelerator."""
    memory: Quantity
    """Memory of one accelerator, in bytes: "80Gi"."""
    usable_memory: Quantity | None = None
    """What of `memory` a process can have, in bytes, where less than all; `memory` when left out."""
    memory_bandwidth: Quantity | None = None
    """Memory bandwidth of one accelerator, in bytes per second: "3350G"."""
    bf16_flops: Quantity | None = None
    """Dense 16-bit floating point operations per second of one accelerator: "989T"."""
    fp8_flops: Quantity | None = None
    """Dense 8-bit floating point operations per second of one accelerator; left out when it has no fp8 units."""
    price: Price | None = None
    """What it costs. Every number of dollars comes from here; Models on a class without a price are not deployed."""
    resource_name: Text = "nvidia.com/gpu"
    """Kubernetes resource that a pod asks for; `cpu` for classes without an accelerator."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes that have it."""
    tolerations: tuple[dict[str, Any], ...] = ()
    """Kubernetes tolerations that its nodes ask for."""


class AcceleratorClass(Resource):
    """A kind of accelerator; cluster-scoped, as a StorageClass is."""

    KIND: ClassVar[str] = "AcceleratorClass"
    NAMESPACED: ClassVar[bool] = False

    api_version: ApiVersion = API_VERSION
    """API group and version."""
    kind: Literal["AcceleratorClass"] = "AcceleratorClass"
    """Kind of the resource."""
    spec: AcceleratorClassSpec
    """Figures, price and place."""
    status: dict[str, Any] | None = None
    """Written by Penstock."""

    @property
    def is_cpu(self) -> bool:
        """Whether models of this class run on processors, without an accelerator."""
        return self.spec.resource_name == "cpu"

    @property
    def usable_bytes(self) -> int:
        """Memory of one accelerator that a process can have, in bytes."""
        return int(self.spec.usable_memory or self.spec.memory)

    def usd_per_hour(self, purchase: Purchase = Purchase.ON_DEMAND) -> Decimal:
        """Return the price of one accelerator for one hour, in US dollars.

        Raises:
            ValueError: the class has no price, or none for this kind of purchase; the message names the remedy.
        """
        price = self.spec.price
        if price is None:
            raise ValueError(f"AcceleratorClass {self.name!r} has no price: set spec.price.onDemandPerHour")
        if purchase is Purchase.ON_DEMAND:
            return price.on_demand_per_hour
        if price.spot_per_hour is None:
            raise ValueError(
                f"AcceleratorClass {self.name!r} has no spot price: set spec.price.spotPerHour, or buy it OnDemand"
            )
        return price.spot_per_hour
