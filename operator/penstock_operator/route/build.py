"""The Route controller and the publisher, wired to their mirrors."""

from __future__ import annotations

from penstock.routing.published import CONFIG_MAP
from penstock_kube.client import KubeClient
from penstock_kube.clock import Clock, SystemClock
from penstock_kube.resources import CONFIG_MAPS, Key
from penstock_kube.store import Change
from penstock_operator.part import Part, mirror
from penstock_operator.route.controller import RouteController
from penstock_operator.route.names import NameBook
from penstock_operator.route.publications import Publications
from penstock_operator.route.publisher import Publisher
from penstock_operator.runtime.controller import Controller
from penstock_operator.runtime.metrics import RuntimeMetrics
from penstock_operator.runtime.watching import is_new_generation
from penstock_operator.settings import Settings
from penstock_operator.tenant.keyring import Keyring
from penstock_operator.typed import TypedWorld
from penstock_operator.world import World

_GATHER_S = 0.1
"""Changes within so long are published as one: an apply of many objects is one write a namespace, not one each."""


def build(
    world: World,
    client: KubeClient,
    settings: Settings,
    *,
    typed: TypedWorld,
    names: NameBook,
    keyring: Keyring,
    publications: Publications,
    metrics: RuntimeMetrics | None = None,
    clock: Clock | None = None,
) -> Part:
    """Return the Route controller and the publisher.

    Args:
        world: mirrors.
        client: the leader's.
        settings: which namespaces.
        typed: the mirrors as resource types.
        names: who has which public name.
        keyring: who has which key.
        publications: whether gateways could be told.
        metrics: told of reconciles and watches.
        clock: time and waiting.
    """
    clock = clock or SystemClock()
    config_maps = mirror(
        client,
        CONFIG_MAPS,
        settings.watch_namespaces,
        field_selector=f"metadata.name={CONFIG_MAP}",
        observer=metrics,
    )
    routes = RouteController(world, client, clock, typed=typed, names=names, publications=publications)
    publisher = Publisher(
        world, config_maps, client, typed=typed, names=names, keyring=keyring, publications=publications
    )
    status = Controller("route", routes.reconcile, observer=metrics, clock=clock)
    routing = Controller("routing", publisher.reconcile, observer=metrics, clock=clock)

    def publish_soon(namespace: str) -> None:
        routing.queue.add_after(Key(namespace, CONFIG_MAP), _GATHER_S)

    def publish(change: Change) -> tuple[Key, ...]:
        if is_new_generation(change):
            publish_soon(change.key.namespace)
        return ()

    for kind in (world.models, world.routes, world.tenants):
        for reflector in kind.reflectors:
            routing.watch(reflector, publish)
    for reflector in config_maps.reflectors:
        reflector.add_handler(publisher.seed)
        routing.watch(reflector)
    for reflector in world.routes.reflectors:
        status.watch(reflector)
    for reflector in world.models.reflectors:
        status.watch(reflector, routes.routes_of_model)

    def requeue_routes(namespace: str) -> None:
        for key in routes.routes_of_namespace(namespace):
            status.queue.add(key)

    names.on_change(lambda key: publish_soon(key.namespace))
    names.on_change(lambda key: requeue_routes(key.namespace))
    publications.on_change(requeue_routes)
    keyring.on_change(lambda tenant: publish_soon(tenant.namespace))
    return Part((status, routing), (config_maps,))
