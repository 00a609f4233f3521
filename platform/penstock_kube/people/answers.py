"""What Penstock's own processes answer people, through the API server's proxy: no port of theirs is open otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from penstock.control.status import ModelStatus
from penstock.cost.receipts import RequestReceipt
from penstock.cost.report import CostReport
from penstock.scaling.decision import Decision
from penstock_kube.client import KubeClient
from penstock_kube.errors import ForbiddenError, KubeError, NotFoundError, StatusError
from penstock_kube.people.settings import PeopleSettings
from penstock_kube.resources import LEASES, PODS, SERVICES, Kind

T = TypeVar("T")


class UnansweredError(Exception):
    """Nobody could be asked; the message says why and what would change that."""


class LeaderModels(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/status` of the operator that leads."""

    at_s: float
    """Unix seconds."""
    models: tuple[ModelStatus, ...]


class LeaderDecisions(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/decisions/{namespace}/{model}` of the operator that leads."""

    decisions: tuple[Decision, ...]
    """Oldest first."""


class Answers:
    """Asks the operator that leads, and the ledger."""

    def __init__(self, client: KubeClient, settings: PeopleSettings) -> None:
        self._client = client
        self._settings = settings

    async def models(self, namespace: str) -> LeaderModels:
        """Return what the leader knows of the Models of a namespace, or of all when it is empty.

        Raises:
            UnansweredError: the leader could not be asked.
        """
        return await self._leader("/api/status", {"namespace": namespace or None}, LeaderModels)

    async def decisions(self, namespace: str, model: str, count: int) -> LeaderDecisions:
        """Return the last decisions about a Model that the leader remembers.

        Raises:
            UnansweredError: the leader could not be asked.
        """
        try:
            return await self._leader(f"/api/decisions/{namespace}/{model}", {"last": count}, LeaderDecisions)
        except _NothingThereError as error:
            raise UnansweredError(f"the operator has yet to see {namespace}/{model}") from error

    async def report(self, since: str | None) -> CostReport:
        """Return the ledger's report from a moment on, in ISO 8601.

        Raises:
            UnansweredError: the ledger could not be asked.
        """
        return _decoded(await self._ledger("/report", {"since": since}), CostReport, "the ledger")

    async def receipt(self, request: str) -> RequestReceipt | None:
        """Return one request's receipt; None when the ledger has none.

        Raises:
            UnansweredError: the ledger could not be asked.
        """
        try:
            answer = await self._ledger(f"/receipt/{request}", {})
        except _NothingThereError:
            return None
        return _decoded(answer, RequestReceipt, "the ledger")

    async def _leader(self, path: str, query: Mapping[str, Any], form: type[T]) -> T:
        settings = self._settings
        where = f"Lease {settings.namespace}/{settings.lease}"
        try:
            lease = await self._client.get(LEASES, settings.namespace, settings.lease)
        except NotFoundError:
            raise UnansweredError(
                f"there is no {where}: no operator has run there; PENSTOCK_CLUSTER_NAMESPACE names another namespace"
            ) from None
        except KubeError as error:
            raise UnansweredError(_refusal("the operator", f"get {where}", error)) from error
        holder = (lease.get("spec") or {}).get("holderIdentity")
        if not holder:
            raise UnansweredError(f"no operator leads: {where} has no holder")
        name = f"http:{holder}:{settings.operator_port}"
        return _decoded(await self._ask("the operator", PODS, name, path, query), form, "the operator")

    async def _ledger(self, path: str, query: Mapping[str, Any]) -> bytes:
        name = f"http:{self._settings.ledger}:{self._settings.ledger_port}"
        return await self._ask("the ledger", SERVICES, name, path, query)

    async def _ask(self, who: str, kind: Kind, name: str, path: str, query: Mapping[str, Any]) -> bytes:
        try:
            return await self._client.ask(kind, self._settings.namespace, name, path, query)
        except NotFoundError as error:
            if _own_words(error) is not None:
                raise _NothingThereError from error
            raise UnansweredError(_refusal(who, f"ask {name}", error)) from error
        except KubeError as error:
            what = f"get {kind.plural}/proxy in namespace {self._settings.namespace}"
            raise UnansweredError(_refusal(who, what, error)) from error


class _NothingThereError(Exception):
    """The process answered 404, and not the API server on the way to it."""


def _own_words(error: StatusError) -> str | None:
    """Return the message of an error that one of our processes gave; None when the API server gave it."""
    try:
        message = json.loads(error.message)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return None
    return message if isinstance(message, str) else None


def _refusal(who: str, what: str, error: KubeError) -> str:
    if isinstance(error, ForbiddenError):
        return f"{who} cannot be asked: you may not {what}"
    if not isinstance(error, StatusError):
        return f"{who} does not answer: {error}"
    own = _own_words(error)
    return f"{who} does not answer: {error.message}" if own is None else f"{who} says: {own}"


def _decoded(answer: bytes, form: type[T], who: str) -> T:
    try:
        return msgspec.json.decode(answer, type=form)
    except msgspec.DecodeError as error:
        raise UnansweredError(f"{who} answers in a form that this version does not know: {error}") from error
