"""`spec.rollout` of a Model: how a changed revision takes over from the one that serves."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from penstock.api.meta import ApiObject, Seconds, field_error

DEFAULT_CANARY_PERCENT = 10
DEFAULT_CANARY_SECONDS = 300


class RolloutStrategy(StrEnum):
    """How traffic moves to a new revision."""

    SURGE = "Surge"
    """The new revision comes up beside the old one, takes all new requests, and the old one drains."""
    CANARY = "Canary"
    """The new revision first takes a share of new requests for some time."""


class Rollout(ApiObject):
    """How a changed revision takes over; requests that run stay where they are until they end."""

    strategy: RolloutStrategy = RolloutStrategy.SURGE
    """`Surge`, the default: the new revision comes up beside the old one and then takes all new requests at once.
    `Canary`: it takes `canaryPercent` of them for `canarySeconds` first."""
    canary_percent: Annotated[int, Field(ge=1, le=99)] | None = None
    """Share of new requests that the canary takes, in percent; 10 when left out. Only with `strategy: Canary`."""
    canary_seconds: Seconds | None = None
    """How long the canary must have served without a failure before it takes over, in seconds; 300 when left out. Only
    with `strategy: Canary`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.strategy is RolloutStrategy.SURGE:
            for field, value in (("canaryPercent", self.canary_percent), ("canarySeconds", self.canary_seconds)):
                if value is not None:
                    message = (
                        f"{value} is given, but strategy Surge has no canary: set strategy to Canary, or remove it"
                    )
                    raise field_error(field, message)
        return self

    @property
    def canary(self) -> tuple[int, int] | None:
        """Share of the canary in percent and its time in seconds, nothing left to default; None without a canary."""
        if self.strategy is RolloutStrategy.SURGE:
            return None
        percent = DEFAULT_CANARY_PERCENT if self.canary_percent is None else self.canary_percent
        return percent, DEFAULT_CANARY_SECONDS if self.canary_seconds is None else self.canary_seconds
