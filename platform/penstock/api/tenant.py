"""Tenant: who may ask, for what, how much, and at whose cost. Also the core Secrets that hold the keys."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from penstock.api.meta import API_VERSION, ApiObject, ApiVersion, Resource, SecretReference, Text, field_error
from penstock.api.quantity import Money

Limit = Annotated[int, Field(ge=1)]


class TenantKey(ApiObject):
    """An API key, by reference: the key itself stands in a Secret only."""

    name: Text
    """Name of the key, to tell keys apart in reports and to retire one."""
    secret_ref: SecretReference
    """Where the key is."""


class Budget(ApiObject):
    """Most that a tenant may spend."""

    per_day: Money | None = None
    """US dollars per day (UTC)."""
    per_month: Money | None = None
    """US dollars per calendar month (UTC)."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.per_day is not None and self.per_month is not None and self.per_day > self.per_month:
            message = f"{self.per_day} is above perMonth {self.per_month}, so it could never be spent: lower it"
            raise field_error("perDay", message)
        return self


class Guardrails(ApiObject):
    """Bounds on single requests."""

    max_prompt_tokens: Limit | None = None
    """Longest prompt, in tokens; the model's context length when left out."""
    max_completion_tokens: Limit | None = None
    """Longest completion, in tokens; what the context leaves when left out."""


class TenantSpec(ApiObject):
    """Keys, limits and budget."""

    keys: tuple[TenantKey, ...] = ()
    """API keys. A tenant without any can be reached by identity tokens only."""
    allowed_routes: tuple[Text, ...] | None = None
    """Names of the Routes, Models and adapters in its namespace that it may use; all of them when left out."""
    requests_per_minute: Limit | None = None
    """Requests per minute over all its keys; no limit when left out."""
    tokens_per_minute: Limit | None = None
    """Prompt and completion tokens per minute over all its keys; no limit when left out."""
    budget: Budget | None = None
    """Most that it may spend; no limit when left out."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Who goes first when there is not enough for all: higher first."""
    guardrails: Guardrails | None = None
    """Bounds on single requests."""

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        names = [key.name for key in self.keys]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise field_error(f"keys[{index}].name", f"{name!r} is used twice: give each key a name of its own")
        return self


class Tenant(Resource):
    """A customer, team or application with its own keys, limits and bill; namespaced."""

    KIND: ClassVar[str] = "Tenant"

    api_version: ApiVersion = API_VERSION
    """API group and version."""
    kind: Literal["Tenant"] = "Tenant"
    """Kind of the resource."""
    spec: TenantSpec = TenantSpec()
    """Keys, limits and budget."""
    status: dict[str, Any] | None = None
    """Written by Penstock."""


class Secret(Resource):
    """Kubernetes' own Secret, as far as a Tenant's keys need it."""

    KIND: ClassVar[str] = "Secret"
    API_VERSION: ClassVar[str] = "v1"

    api_version: Literal["v1"] = "v1"
    """API group and version."""
    kind: Literal["Secret"] = "Secret"
    """Kind of the resource."""
    type: str = "Opaque"
    """Kubernetes' type of the Secret."""
    immutable: bool = False
    """Whether Kubernetes refuses edits."""
    data: dict[str, str] = Field(default_factory=dict, repr=False)
    """Entries in base64."""
    string_data: dict[str, str] = Field(default_factory=dict, repr=False)
    """Entries as plain text; they win over `data`."""

    @model_validator(mode="after")
    def _check_base64(self) -> Self:
        for key, text in self.data.items():
            try:
                base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise field_error(
                    f"data.{key}", "is not base64: encode it, or move it to stringData as plain text"
                ) from None
        return self

    def value(self, key: str) -> bytes | None:
        """Return one entry's bytes, or None when there is no such key."""
        if key in self.string_data:
            return self.string_data[key].encode()
        encoded = self.data.get(key)
        return None if encoded is None else base64.b64decode(encoded)
