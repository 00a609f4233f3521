"""One operator process put together: client, mirrors, controllers, election, answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry

from penstock.api.manifest import ResourceKey
from penstock.api.meta import GROUP
from penstock.api.model import Model
from penstock.catalog import accelerator_classes
from penstock.cost.spool import SpoolWriter
from penstock.routing.published import MANAGED_BY
from penstock_kube.client import KubeClient
from penstock_kube.config import Access
from penstock_kube.errors import KubeError
from penstock_kube.events import EventRecorder
from penstock_kube.lease import LeaderElector, LeaseSettings
from penstock_kube.resources import (
    ACCELERATOR_CLASSES,
    ENDPOINT_SLICES,
    MODELS,
    PODS,
    RAY_CLUSTERS,
    ROUTES,
    TENANTS,
    Key,
)
from penstock_operator.accelerator.build import build as build_accelerators
from penstock_operator.accelerator.controller import CatalogController
from penstock_operator.api import OperatorApi
from penstock_operator.metrics import ModelCollector
from penstock_operator.model.controller import ModelController
from penstock_operator.part import mirror
from penstock_operator.pool.controller import PoolController
from penstock_operator.pool.names import MANAGED_SELECTOR
from penstock_operator.pool.policy_controller import build_policies
from penstock_operator.pool.slices import MANAGED_BY_LABEL
from penstock_operator.promises import Promises
from penstock_operator.reports import Reports
from penstock_operator.route.build import build as build_routes
from penstock_operator.route.names import NameBook
from penstock_operator.route.publications import Publications
from penstock_operator.runtime.conditions import Condition
from penstock_operator.runtime.manager import Manager
from penstock_operator.runtime.metrics import RuntimeMetrics
from penstock_operator.settings import Settings
from penstock_operator.tenant.build import build as build_tenants
from penstock_operator.tenant.keyring import Keyring
from penstock_operator.typed import TypedWorld
from penstock_operator.weights.build import build as build_weights
from penstock_operator.weights.build import build_images
from penstock_operator.world import World
from penstock_usage.metrics import ShipperCollector

if TYPE_CHECKING:
    from penstock_usage.shipper import Shipper

FIELD_MANAGER: Final = "penstock-operator"
REMEDIES: Final = {
    GROUP: "install the chart, or run `penstock crds --output DIR` and `kubectl apply --server-side -f DIR`",
    RAY_CLUSTERS.group: "install KubeRay (https://docs.ray.io/en/latest/cluster/kubernetes/getting-started.html)",
}
_CATALOG_WITHIN_S: Final = 10.0
_LOOK_S: Final = 0.05
_SERVICE_LABEL: Final = "kubernetes.io/service-name"
_log = logging.getLogger(__name__)


def lease_of(settings: Settings) -> LeaseSettings:
    """Return the election that this process takes part in.

    Raises:
        ValueError: its times do not go together; the message says which.
    """
    lease = settings.lease
    return LeaseSettings(
        settings.namespace, lease.name, settings.pod_name, lease.duration_s, lease.renew_deadline_s, lease.retry_s
    )


def make_world(client: KubeClient, settings: Settings, metrics: RuntimeMetrics) -> World:
    """Return the mirrors of what all controllers read, in the namespaces that are watched."""
    spaces = settings.watch_namespaces
    gateways = f"{_SERVICE_LABEL}={settings.gateway_service}"
    slices = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
    return World(
        models=mirror(client, MODELS, spaces, observer=metrics),
        classes=mirror(client, ACCELERATOR_CLASSES, spaces, observer=metrics),
        routes=mirror(client, ROUTES, spaces, observer=metrics),
        tenants=mirror(client, TENANTS, spaces, observer=metrics),
        ray_clusters=mirror(client, RAY_CLUSTERS, spaces, label_selector=MANAGED_SELECTOR, observer=metrics),
        pods=mirror(client, PODS, spaces, label_selector=MANAGED_SELECTOR, observer=metrics),
        gateways=mirror(client, ENDPOINT_SLICES, [settings.namespace], label_selector=gateways, observer=metrics),
        slices=mirror(client, ENDPOINT_SLICES, spaces, label_selector=slices, observer=metrics),
    )


class Operator:
    """All of one process. Make it in the event loop that runs it."""

    def __init__(
        self,
        settings: Settings,
        client: KubeClient,
        spool: SpoolWriter,
        registry: CollectorRegistry,
        metrics: RuntimeMetrics,
    ) -> None:
        """Put the parts together; nothing is read or written yet.

        Args:
            settings: as read at the start of the process.
            client: calls of every copy; the leader's own are fenced.
            spool: takes replica events.
            registry: where metrics are read.
            metrics: told of what the runtime does; the client's observer.

        Raises:
            ValueError: the times of the election do not go together.
        """
        self.elector = LeaderElector(client, lease_of(settings))
        leader = client.fenced(self.elector)
        self.world = make_world(client, settings, metrics)
        typed = TypedWorld.of(self.world)
        names, keyring, publications = NameBook(typed.models, typed.routes), Keyring(), Publications()
        recorder = EventRecorder(leader, component=FIELD_MANAGER, instance=settings.pod_name)
        reports = None if settings.ledger_url is None else Reports(settings.ledger_url)
        self.pools = PoolController(
            leader,
            self.world,
            typed=typed,
            names=names,
            settings=settings,
            spool=spool,
            report=lambda: None if reports is None else reports.newest,
        )
        weights = build_weights(self.world, leader, settings, typed.models, metrics=metrics)
        self._weights = None if weights is None else weights.controller

        def extra(key: Key) -> tuple[Condition, ...]:
            downloads = () if self._weights is None else self._weights.conditions(key)
            return (*names.adapter_conditions(key), *downloads)

        model = ModelController(
            leader,
            self.world,
            recorder,
            typed.models,
            status_period_s=settings.status_period_s,
            extra=extra,
            observer=metrics,
        )
        if self._weights is not None:
            self._weights.on_change(model.controller.queue.add)
        names.on_change(lambda key: _look_again(model, key))
        parts = (
            build_accelerators(self.world, leader, settings, metrics=metrics),
            build_images(self.world, leader, settings, typed.models, metrics=metrics),
            build_policies(self.world, leader, settings, metrics=metrics),
            *(
                build(
                    self.world,
                    leader,
                    settings,
                    typed=typed,
                    names=names,
                    keyring=keyring,
                    publications=publications,
                    metrics=metrics,
                )
                for build in (build_routes, build_tenants)
            ),
            *(() if weights is None else (weights.part,)),
        )
        self._shipper = _shipper(settings, spool)
        self._catalog = (
            None if settings.watch_namespaces else CatalogController(self.world.classes, accelerator_classes(), leader)
        )
        registry.register(ModelCollector(self.world, self.elector))
        self._flush_s = settings.flush_s
        self._spool = spool
        beside: list[Callable[[], Coroutine[Any, Any, None]]] = []
        if self._shipper is not None:
            registry.register(ShipperCollector(self._shipper))
            # Without a ledger that takes them, promises would only fill the disk.
            beside.append(Promises(spool, is_leader=lambda: self.elector.is_leader, present=self.pools.present).run)
        if reports is not None:
            beside.append(reports.run)
        self.manager = Manager(
            reflectors=[
                *(reflector for each in self.world.mirrors for reflector in each.reflectors),
                *(reflector for part in parts for reflector in part.reflectors),
            ],
            controllers=[
                self.pools.controller(observer=metrics),
                model.controller,
                *(controller for part in parts for controller in part.controllers),
            ],
            elector=self.elector,
            recorder=recorder,
            metrics=metrics,
            registry=registry,
            on_leading=self._bring_catalog,
            beside=beside,
            routes=OperatorApi(self.world, self.elector, self.pools.decisions).routes(),
            remedies=REMEDIES,
            health_host=settings.http_host,
            health_port=settings.http_port,
        )

    async def _bring_catalog(self) -> None:
        """Have the catalog's classes before any Model is judged: on a fresh install each would find its class missing.

        Trouble is no reason not to lead: the catalog's own controller goes on trying.
        """
        if self._catalog is None:
            return
        classes = self.world.classes
        try:
            async with asyncio.timeout(_CATALOG_WITHIN_S):
                for reflector in classes.reflectors:
                    await reflector.wait_synced()
                await self._catalog.reconcile(CatalogController.KEY)
                while any(classes.get("", entry.name) is None for entry in accelerator_classes()):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_S)  # a mirror tells handlers of changes, and has none to wait for
        except (KubeError, TimeoutError) as error:
            _log.warning("the catalog's accelerator classes are not all there yet: %s", error)

    async def run(self) -> None:
        """Run until cancelled; then stop in order, and let the ledger have the last records.

        Raises:
            NotLeaderError: leadership was lost.
            OSError: the port of the probes is taken.
        """
        shipping = None if self._shipper is None else asyncio.create_task(self._shipper.run(), name="usage")
        try:
            await self.manager.run()
        finally:
            await self.pools.close()
            if self._weights is not None:
                await self._weights.close()
            self._spool.close()
            if self._shipper is not None and shipping is not None:
                left_bytes = 0 if shipping.done() else await self._shipper.flush(self._flush_s)
                if left_bytes:
                    _log.warning("%d bytes of replica events stay in the spool", left_bytes)
                shipping.cancel()
                await asyncio.gather(shipping, return_exceptions=True)


def _shipper(settings: Settings, spool: SpoolWriter) -> Shipper | None:
    if settings.where is None:
        return None
    from penstock_usage.shipper import Shipper  # noqa: PLC0415 - needs no client of Redis where none is named

    return Shipper(spool, settings.where, settings.stream)


def _look_again(models: ModelController, key: ResourceKey) -> None:
    """Have a Model say what names it lost or got back."""
    if key.kind == Model.KIND:
        models.controller.queue.add(Key(key.namespace, key.name))


async def run_operator(settings: Settings) -> None:
    """Run one operator process until cancelled.

    Raises:
        ConfigError: there is no cluster to talk to.
        NotLeaderError: leadership was lost; the process is to end, and its supervisor to start a fresh one.
        OSError: the spool cannot be written, or the port of the probes is taken.
        ValueError: the times of the election do not go together.
    """
    access = Access.find(settings.access_kubeconfig)
    await access.load()  # says at once what is wrong with the credentials, before the election tries again and again
    with SpoolWriter(settings.spool_directory, "operator", limit_bytes=settings.spool_limit_bytes) as spool:
        registry = CollectorRegistry()
        metrics = RuntimeMetrics(registry)
        async with KubeClient(access, field_manager=FIELD_MANAGER, observer=metrics) as client:
            await Operator(settings, client, spool, registry, metrics).run()
