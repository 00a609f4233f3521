"""The Tenant controller, wired to its mirrors."""

from __future__ import annotations

from pathlib import Path

from penstock_kube.client import KubeClient
from penstock_kube.clock import Clock, SystemClock
from penstock_kube.resources import SECRETS
from penstock_operator.part import Part, mirror
from penstock_operator.route.names import NameBook
from penstock_operator.route.publications import Publications
from penstock_operator.runtime.controller import Controller
from penstock_operator.runtime.metrics import RuntimeMetrics
from penstock_operator.runtime.watching import is_new_generation
from penstock_operator.settings import Settings
from penstock_operator.tenant.controller import TenantController
from penstock_operator.tenant.keyring import Keyring
from penstock_operator.tenant.keys import KeyReader
from penstock_operator.tenant.plan import API_KEYS_LABEL
from penstock_operator.typed import TypedWorld
from penstock_operator.world import World


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
    """Return the Tenant controller.

    Args:
        world: mirrors.
        client: the leader's.
        settings: which namespaces, and where the pepper is.
        typed: the mirrors as resource types.
        names: who has which public name.
        keyring: is told of every key.
        publications: whether gateways could be told.
        metrics: told of reconciles and watches.
        clock: time and waiting.
    """
    clock = clock or SystemClock()
    labelled = mirror(
        client, SECRETS, settings.watch_namespaces, label_selector=f"{API_KEYS_LABEL}=true", observer=metrics
    )
    pepper = _pepper(settings.pepper_file)
    reader = pepper if isinstance(pepper, str) else KeyReader(client, labelled, pepper, clock)
    tenants = TenantController(
        world, client, clock, typed=typed, names=names, keyring=keyring, publications=publications, reader=reader
    )
    controller = Controller("tenant", tenants.reconcile, observer=metrics, clock=clock)
    for reflector in world.tenants.reflectors:
        controller.watch(reflector)
    for reflector in labelled.reflectors:
        controller.watch(reflector, tenants.tenants_of_secret)
    for public in (world.models, world.routes):
        for reflector in public.reflectors:
            controller.watch(
                reflector,
                lambda change: tenants.tenants_of_namespace(change.key.namespace) if is_new_generation(change) else (),
            )

    def requeue_namespace(namespace: str) -> None:
        for key in tenants.tenants_of_namespace(namespace):
            controller.queue.add(key)

    names.on_change(lambda key: requeue_namespace(key.namespace))

    def requeue_all(namespace: str) -> None:
        for key in tenants.all_of(namespace):
            controller.queue.add(key)

    publications.on_change(requeue_all)
    keyring.on_change(controller.queue.add)
    return Part((controller,), (labelled,))


def _pepper(file: Path | None) -> bytes | str:
    """Return the pepper, or why there is none and what to do."""
    if file is None:
        return "the operator has no pepper to hash keys under: set PENSTOCK_OPERATOR_PEPPER_FILE to the gateways' one"
    try:
        pepper = file.read_bytes()
    except OSError as error:
        return f"the operator's pepper {file} cannot be read ({error.strerror}): mount the Secret that holds it"
    return pepper or f"the operator's pepper {file} is empty: put at least 32 random bytes into its Secret"
