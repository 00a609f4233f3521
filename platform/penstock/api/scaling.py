"""`spec.scaling` of a Model: bounds, target and windows of the number of replicas."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from penstock.api.meta import ApiObject, Seconds, field_error
from penstock.api.quantity import Ratio

DEFAULT_IDLE_SECONDS = 600


class ScalingMode(StrEnum):
    """Who decides how many replicas there are."""

    PRESSURE = "Pressure"
    """Penstock, from demand over capacity."""
    EXTERNAL = "External"
    """Whoever writes `spec.replicas`: a person, an HPA, KEDA."""


class Scaling(ApiObject):
    """How the number of replicas follows the load."""

    mode: ScalingMode = ScalingMode.PRESSURE
    """Who decides how many replicas there are. `Pressure`, the default: Penstock, from demand over capacity, within the
    bounds. `External`: whoever writes `spec.replicas`, such as a person, an HPA or KEDA."""
    min_replicas: Annotated[int, Field(ge=0)] = 1
    """Fewest replicas; 0 lets an idle model go to none. 1 when left out."""
    max_replicas: Annotated[int, Field(ge=1)] = 1
    """Most replicas; 1 when left out."""
    target_pressure: Ratio = Decimal("0.85")
    """Wanted ratio of demand to capacity, above 0 and at most 1; a quoted decimal, "0.85" when left out."""
    scale_down_after_seconds: Seconds = 300
    """How long fewer replicas must have been enough before one goes, in seconds; 300 when left out."""
    scale_to_zero_after_seconds: Annotated[int, Field(ge=1)] | None = None
    """How long a model must have had no request before its last replica goes, in seconds; 600 when left out.
    Only with `minReplicas: 0`."""
    panic_window_seconds: Annotated[int, Field(ge=1, le=300)] = 6
    """Window over which a sudden rise counts at once, in seconds; 6 when left out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_replicas > self.max_replicas:
            message = (
                f"{self.max_replicas} is below minReplicas {self.min_replicas}: set it to {self.min_replicas} or more"
            )
            raise field_error("maxReplicas", message)
        if not 0 < self.target_pressure <= 1:
            raise field_error(
                "targetPressure", f'{self.target_pressure} is not in (0, 1]: write a ratio such as "0.85"'
            )
        if self.scale_to_zero_after_seconds is not None and self.min_replicas > 0:
            message = (
                f"{self.scale_to_zero_after_seconds} is given, but minReplicas {self.min_replicas} keeps replicas: "
                "set minReplicas to 0, or remove it"
            )
            raise field_error("scaleToZeroAfterSeconds", message)
        return self

    @property
    def idle_seconds_to_zero(self) -> int | None:
        """Seconds without a request after which the last replica goes; None when it never does."""
        return None if self.min_replicas else self.scale_to_zero_after_seconds or DEFAULT_IDLE_SECONDS
