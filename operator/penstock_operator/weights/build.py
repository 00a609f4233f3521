"""The controllers of downloads and of image pulls, wired to their mirrors."""

from __future__ import annotations

from typing import Final, NamedTuple

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.model import Model
from penstock_kube.client import KubeClient
from penstock_kube.clock import Clock, SystemClock
from penstock_kube.resources import DAEMON_SETS, JOBS, Key
from penstock_kube.store import Change
from penstock_operator.part import Part, mirror
from penstock_operator.pool.names import MANAGED_SELECTOR
from penstock_operator.runtime.controller import Controller
from penstock_operator.runtime.metrics import RuntimeMetrics
from penstock_operator.runtime.watching import is_new_generation
from penstock_operator.settings import Settings
from penstock_operator.typed import Typed
from penstock_operator.weights.controller import WeightsController
from penstock_operator.weights.images import IMAGES_LABEL, ImagesController
from penstock_operator.weights.images import KEY as IMAGES_KEY
from penstock_operator.weights.plan import WEIGHTS_LABEL
from penstock_operator.world import World

_GATHER_S: Final = 1.0
"""Models come in groups: one look at all of them is enough."""


class Downloads(NamedTuple):
    """The controller of downloads, and what it adds to the process."""

    controller: WeightsController
    part: Part


def build(
    world: World,
    client: KubeClient,
    settings: Settings,
    models: Typed[Model],
    *,
    metrics: RuntimeMetrics | None = None,
    clock: Clock | None = None,
) -> Downloads | None:
    """Return the controller of downloads; None where no claim keeps what is downloaded.

    Args:
        world: mirrors.
        client: the leader's.
        settings: which namespaces, and the cache.
        models: Models as their resource type.
        metrics: told of reconciles and watches.
        clock: time and waiting.
    """
    if settings.ray.cache_claim is None:
        return None
    clock = clock or SystemClock()
    selector = f"{MANAGED_SELECTOR},{WEIGHTS_LABEL}"
    jobs = mirror(client, JOBS, settings.watch_namespaces, label_selector=selector, observer=metrics)
    weights = WeightsController(client, models, jobs, world.pods, options=settings.ray, clock=clock)
    controller = Controller("weights", weights.reconcile, observer=metrics, clock=clock)

    def of_model(change: Change) -> tuple[Key, ...]:
        return (Key("", change.key.namespace),) if is_new_generation(change) else ()

    def of_pod(change: Change) -> tuple[Key, ...]:
        pod = change.new or change.old or {}
        marked = WEIGHTS_LABEL in (pod["metadata"].get("labels") or {})
        return (Key("", change.key.namespace),) if marked else ()

    for reflector in world.models.reflectors:
        controller.watch(reflector, of_model)
    for reflector in jobs.reflectors:
        controller.watch(reflector, lambda change: (Key("", change.key.namespace),))
    for reflector in world.pods.reflectors:
        controller.watch(reflector, of_pod)
    return Downloads(weights, Part((controller,), (jobs,)))


def build_images(
    world: World,
    client: KubeClient,
    settings: Settings,
    models: Typed[Model],
    *,
    metrics: RuntimeMetrics | None = None,
    clock: Clock | None = None,
) -> Part:
    """Return the controller that has engine images pulled ahead; none where settings do not want it.

    Args:
        world: mirrors.
        client: the leader's.
        settings: whether to, and the operator's own namespace.
        models: Models as their resource type.
        metrics: told of reconciles and watches.
        clock: time and waiting.
    """
    if not settings.ray.pull_ahead:
        return Part(())
    pulls = mirror(client, DAEMON_SETS, [settings.namespace], label_selector=IMAGES_LABEL, observer=metrics)
    classes = Typed(AcceleratorClass, world.classes)
    images = ImagesController(client, models, classes, pulls, options=settings.ray, namespace=settings.namespace)
    controller = Controller("images", images.reconcile, workers=1, observer=metrics, clock=clock)

    def look_soon(change: Change) -> tuple[Key, ...]:
        if is_new_generation(change):
            controller.queue.add_after(IMAGES_KEY, _GATHER_S)
        return ()

    for watched in (world.models, world.classes, pulls):
        for reflector in watched.reflectors:
            controller.watch(reflector, look_soon)
    controller.queue.add(IMAGES_KEY)
    return Part((controller,), (pulls,))
