"""Reads a cluster for the command line: live answers where they can be had, else what the objects hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.errors import ManifestError
from penstock.api.load import parse_resource
from penstock.api.manifest import Manifest
from penstock.api.model import Model
from penstock.cli.where import ClusterCost, ClusterDecisions, ClusterFlags, ClusterModels
from penstock.cost.receipts import RequestReceipt
from penstock.errors import UserError
from penstock_kube.client import KubeClient
from penstock_kube.errors import ForbiddenError, KubeError, NotFoundError, UnauthorizedError
from penstock_kube.people.access import find_access, namespace_of
from penstock_kube.people.answers import Answers, UnansweredError
from penstock_kube.people.models import model_status
from penstock_kube.people.settings import PeopleSettings
from penstock_kube.resources import ACCELERATOR_CLASSES, MODELS

T = TypeVar("T")

_READ = ("name", "namespace", "uid", "generation", "creationTimestamp")


class ClusterReader:
    """Reads with the user's own credentials; see the protocol in `penstock.cli.where`."""

    def __init__(self, flags: ClusterFlags) -> None:
        """Find the cluster; nothing is asked yet.

        Raises:
            UserError: there is no usable kubeconfig.
        """
        self._settings = PeopleSettings()
        self._access = find_access(flags.kubeconfig, flags.context)
        self._namespace = "" if flags.all_namespaces else flags.namespace or namespace_of(self._access)

    def models(self) -> ClusterModels:
        """Return the Models of the chosen namespace, or of all."""

        async def read(client: KubeClient) -> ClusterModels:
            listing = await client.list(MODELS, self._namespace)
            held = {(one.namespace, one.name): one for one in map(model_status, listing.items)}
            if not held:
                return ClusterModels(time.time(), (), live=True, remarks=(self._nothing(),))
            try:
                told = await Answers(client, self._settings).models(self._namespace)
            except UnansweredError as error:
                remark = f"{error}; figures are those of the objects' statuses"
                return ClusterModels(
                    time.time(), tuple(held[key] for key in sorted(held)), live=False, remarks=(remark,)
                )
            live = {(one.namespace, one.name): one for one in told.models}
            # What the leader has yet to look at, or no longer has, is shown as its object says.
            return ClusterModels(told.at_s, tuple(live.get(key, held[key]) for key in sorted(held)), live=True)

        return self._run(read)

    def decisions(self, model: str, count: int) -> ClusterDecisions:
        """Return the last decisions about a model."""

        async def read(client: KubeClient) -> ClusterDecisions:
            status = model_status(await self._model(client, model))
            try:
                told = await Answers(client, self._settings).decisions(status.namespace, model, count)
            except UnansweredError as error:
                return ClusterDecisions((), status, (f"{error}; this is what the object's status says",))
            return ClusterDecisions(told.decisions, status)

        return self._run(read)

    def cost(self, since_s: float | None) -> ClusterCost:
        """Return what was spent since a moment, or since the ledger began."""
        since = None if since_s is None else datetime.fromtimestamp(since_s, UTC).isoformat()

        async def read(client: KubeClient) -> ClusterCost:
            try:
                return ClusterCost(await Answers(client, self._settings).report(since))
            except UnansweredError as error:
                listing = await client.list(MODELS, self._namespace)
                models = tuple(map(model_status, listing.items))
                return ClusterCost(None, models, (f"{error}; figures are those of the objects' statuses, last hour",))

        return self._run(read)

    def receipt(self, request: str) -> RequestReceipt | None:
        """Return one request's receipt; None when the ledger has none."""

        async def read(client: KubeClient) -> RequestReceipt | None:
            try:
                return await Answers(client, self._settings).receipt(request)
            except UnansweredError as error:
                raise UserError(f"{error}; a receipt is nowhere else") from error

        return self._run(read)

    def manifest(self, names: Sequence[str]) -> Manifest:
        """Return the named Models, and all AcceleratorClasses of the cluster."""

        async def read(client: KubeClient) -> Manifest:
            classes = await client.list(ACCELERATOR_CLASSES)
            return Manifest(
                models=tuple([_typed(Model, await self._model(client, name)) for name in names]),
                accelerator_classes=tuple(_typed(AcceleratorClass, one) for one in classes.items),
                routes=(),
                tenants=(),
            )

        return self._run(read)

    async def _model(self, client: KubeClient, name: str) -> dict[str, Any]:
        if not self._namespace:
            found = [one for one in (await client.list(MODELS)).items if one["metadata"]["name"] == name]
            if len(found) > 1:
                where = ", ".join(one["metadata"]["namespace"] for one in found)
                raise UserError(f"Model {name!r} is in the namespaces {where}: choose one with --namespace")
            if not found:
                raise UserError(f"Model {name!r} is in no namespace: `penstock status -A` lists those there are")
            return found[0]
        try:
            return await client.get(MODELS, self._namespace, name)
        except NotFoundError as error:
            if not _is_object_missing(error, name):
                raise
            known = sorted(one["metadata"]["name"] for one in (await client.list(MODELS, self._namespace)).items)
            there = f"it has {', '.join(known)}" if known else "it has none"
            raise UserError(
                f"there is no Model {name!r} in namespace {self._namespace}: {there}; --namespace names another"
            ) from error

    def _nothing(self) -> str:
        if not self._namespace:
            return "no Models in the cluster"
        return f"no Models in namespace {self._namespace}; -A looks into all"

    def _run(self, work: Callable[[KubeClient], Awaitable[T]]) -> T:
        async def run() -> T:
            timeout_s = self._settings.timeout_s
            async with KubeClient(self._access, field_manager="penstock-cli", timeout_s=timeout_s) as client:
                return await work(client)

        try:
            return asyncio.run(run())
        except KubeError as error:
            raise UserError(_explained(error, self._access.kubeconfig)) from error


def _typed(kind: type[T], obj: dict[str, Any]) -> T:
    """Return an object as a resource.

    Raises:
        UserError: this version cannot read it.
    """
    metadata = {field: value for field, value in obj["metadata"].items() if field in _READ}
    try:
        resource = parse_resource({**obj, "metadata": metadata, "status": None})
    except ManifestError as error:
        raise UserError(f"{obj['kind']} {obj['metadata']['name']}: this version cannot read it: {error}") from error
    if not isinstance(resource, kind):
        raise UserError(f"{obj['metadata']['name']}: is a {obj['kind']}, not a {kind.__name__}")
    return resource


def _is_object_missing(error: NotFoundError, name: str) -> bool:
    return (error.details or {}).get("name") == name


def _explained(error: KubeError, kubeconfig: str | None) -> str:
    place = kubeconfig or "the pod's service account"
    if isinstance(error, UnauthorizedError):
        return f"the cluster does not know you: the credentials in {place} are wrong or have expired"
    if isinstance(error, ForbiddenError):
        return f"{error.message}: ask for the role `penstock-viewer`, or choose a namespace of yours with --namespace"
    if isinstance(error, NotFoundError):
        return "the cluster has no Models: Penstock is not installed there (`helm install penstock`)"
    return f"the cluster in {place} does not answer: {error}"


def make_reader(flags: ClusterFlags) -> ClusterReader:
    """Return the reader of a cluster: the entry point `reader` of the group `penstock.clusters`."""
    return ClusterReader(flags)
