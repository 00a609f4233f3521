"""Route: a public model name and the Models that answer to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from penstock.api.meta import API_VERSION, ApiObject, ApiVersion, Resource, Text, field_error


class RouteBackend(ApiObject):
    """One Model that takes a share of a route's requests."""

    model: Text
    """Name of a Model in the route's namespace."""
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    """Share of requests, relative to the other backends; 0 takes none."""


class RouteSpec(ApiObject):
    """Public name, weighted Models and fallbacks."""

    model_name: Text | None = None
    """Model name that clients give; the route's own name when left out."""
    backends: Annotated[tuple[RouteBackend, ...], Field(min_length=1)]
    """Models that share the requests by weight."""
    fallbacks: tuple[Text, ...] = ()
    """Models in the route's namespace, tried in order when no backend has a replica that takes the request."""

    @model_validator(mode="after")
    def _check_backends(self) -> Self:
        _refuse_repeats("backends", [backend.model for backend in self.backends], "add their weights up in one entry")
        _refuse_repeats("fallbacks", self.fallbacks, "keep one of them")
        if all(backend.weight == 0 for backend in self.backends):
            raise field_error(
                "backends", "every weight is 0, so no request could go anywhere: give one backend a weight above 0"
            )
        return self


def _refuse_repeats(field: str, names: Sequence[str], remedy: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise field_error(f"{field}[{index}]", f"{name!r} is named twice: {remedy}")


class Route(Resource):
    """A model name that clients use, apart from the Models behind it; namespaced."""

    KIND: ClassVar[str] = "Route"

    api_version: ApiVersion = API_VERSION
    """API group and version."""
    kind: Literal["Route"] = "Route"
    """Kind of the resource."""
    spec: RouteSpec
    """What the route does."""
    status: dict[str, Any] | None = None
    """Written by Penstock."""

    @property
    def model_name(self) -> str:
        """The public name, as clients give it."""
        return self.spec.model_name or self.name
