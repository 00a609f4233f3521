"""What every resource has: group, version, kind, metadata, and how its fields are written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

GROUP: Final = "penstock.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "penstock.dev/v1alpha1"
ApiVersion = Literal["penstock.dev/v1alpha1"]

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_RE = re.compile(_LABEL)
_SUBDOMAIN_RE = re.compile(rf"{_LABEL}(\.{_LABEL})*")

Seconds = Annotated[int, Field(ge=0, le=7 * 86400)]
"""Whole seconds, up to a week."""

Text = Annotated[str, StringConstraints(min_length=1)]
"""A string that is not empty."""


def field_error(field: str, message: str) -> PydanticCustomError:
    """Make the error of a rule over several fields, pinned to the one that is to change.

    Args:
        field: path below the object whose validator raises it, as written in YAML: `scaling.maxReplicas`.
        message: names the value and the remedy.
    """
    return PydanticCustomError("rule", "{message}", {"message": message, "field": field})


class ApiObject(BaseModel):
    """Part of a resource: camelCase in YAML, snake_case in Python, unknown fields refused, never edited in place."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


class SecretReference(ApiObject):
    """One entry of a Secret in the resource's own namespace."""

    name: Text
    """Name of the Secret."""
    key: Text
    """Key within it."""


def check_label(value: str) -> str:
    """Refuse what is not an RFC 1123 label (63 characters; lower-case letters, digits and inner hyphens)."""
    if len(value) > 63 or _LABEL_RE.fullmatch(value) is None:
        raise PydanticCustomError("name", "{reason}", {"reason": _name_remedy(value, 63, "-")})
    return value


def check_subdomain(value: str) -> str:
    """Refuse what is not an RFC 1123 subdomain (253 characters; labels joined by dots)."""
    if len(value) > 253 or _SUBDOMAIN_RE.fullmatch(value) is None:
        raise PydanticCustomError("name", "{reason}", {"reason": _name_remedy(value, 253, "-.")})
    return value


def _name_remedy(value: str, longest: int, inner: str) -> str:
    allowed = f"lower-case letters, digits and {' or '.join(repr(sign) for sign in inner)} inside, {longest} at most"
    suggestion = re.sub(rf"[^a-z0-9{re.escape(inner)}]+", "-", value.lower()).strip("-.")[:longest].rstrip("-.")
    remedy = f": try {suggestion!r}" if suggestion and suggestion != value else ""
    return f"{value!r} is not a valid name ({allowed}){remedy}"


class Metadata(ApiObject):
    """Name, namespace and labels; what only the Kubernetes API server writes is accepted and left alone."""

    name: str
    """Name of the resource, unique in kind and namespace: an RFC 1123 label, or a subdomain where cluster-scoped."""
    namespace: str | None = None
    """Namespace; `default` when left out. Cluster-scoped kinds have none."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels to select by."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Notes for tools."""
    finalizers: tuple[str, ...] = ()
    """Written by controllers."""
    generation: int | None = None
    """Written by the API server; grows with each change of `spec`."""
    uid: str | None = None
    """Written by the API server."""
    resource_version: str | None = None
    """Written by the API server."""
    creation_timestamp: str | None = None
    """Written by the API server."""
    deletion_timestamp: str | None = None
    """Written by the API server."""
    deletion_grace_period_seconds: int | None = None
    """Written by the API server."""
    owner_references: tuple[dict[str, Any], ...] = ()
    """Written by controllers."""
    managed_fields: tuple[dict[str, Any], ...] = ()
    """Written by the API server."""


class Resource(ApiObject):
    """Base of every kind: `apiVersion`, `kind` and `metadata`."""

    API_VERSION: ClassVar[str] = API_VERSION
    KIND: ClassVar[str]
    NAMESPACED: ClassVar[bool] = True

    metadata: Metadata
    """Name, namespace and labels."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if self.NAMESPACED:
            # Names become parts of host names and of Ray Serve applications, so that dots are out.
            _pinned("metadata.name", check_label, self.metadata.name)
            if self.metadata.namespace is not None:
                _pinned("metadata.namespace", check_label, self.metadata.namespace)
            return self
        _pinned("metadata.name", check_subdomain, self.metadata.name)
        if self.metadata.namespace is not None:
            given = self.metadata.namespace
            message = f"{given!r} is given, but {self.KIND} belongs to the whole cluster: remove the namespace"
            raise field_error("metadata.namespace", message)
        return self

    @property
    def name(self) -> str:
        """The resource's name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """The resource's namespace, `default` when none is written, empty for cluster-scoped kinds."""
        return (self.metadata.namespace or "default") if self.NAMESPACED else ""


def _pinned(field: str, check: Callable[[str], str], value: str) -> None:
    try:
        check(value)
    except PydanticCustomError as error:
        raise field_error(field, error.message()) from None
