"""Keeps one NetworkPolicy in each namespace that has a RayCluster of ours, from before its first pod starts."""

from __future__ import annotations

from penstock_kube.client import KubeClient
from penstock_kube.resources import NETWORK_POLICIES, Key
from penstock_kube.store import Change
from penstock_operator.part import Part, mirror
from penstock_operator.pool.mirrored import Mirrored
from penstock_operator.pool.names import MANAGED
from penstock_operator.pool.policy import POLICY_NAME, is_in_force, is_ours, policy_object
from penstock_operator.runtime.controller import Controller, ReconcileObserver, Result
from penstock_operator.runtime.metrics import RuntimeMetrics
from penstock_operator.runtime.watching import is_new_generation
from penstock_operator.settings import Settings
from penstock_operator.world import Mirror, World


class PolicyController:
    """Reconciles namespaces: a key's name is the namespace."""

    def __init__(self, client: KubeClient, clusters: Mirror, policies: Mirror, *, settings: Settings) -> None:
        """Make the reconcile.

        Args:
            client: Writes NetworkPolicies.
            clusters: Our RayClusters.
            policies: NetworkPolicies of our name.
            settings: Whether there are to be any, and whom they admit.
        """
        self._clusters = clusters
        self._policies = policies
        self._mirrored = Mirrored(client, policies)
        self._settings = settings

    def controller(self, *, observer: ReconcileObserver | None = None) -> Controller:
        """Return the controller, which looks when a cluster comes or goes and when somebody edits a policy."""
        controller = Controller("policy", self.reconcile, observer=observer)
        for watched in (self._clusters, self._policies):
            for reflector in watched.reflectors:
                controller.watch(reflector, _namespace)
        return controller

    async def reconcile(self, key: Key) -> Result:
        """Write what differs; where policies are turned off, remove what an operator wrote before."""
        namespace, settings = key.name, self._settings
        current = self._mirrored.get(namespace, POLICY_NAME)
        if not settings.ray.network_policy:
            if current is not None and is_ours(current):
                await self._mirrored.delete(current)
            return Result()
        clusters = [
            cluster
            for cluster in self._clusters.all(namespace)
            if MANAGED.items() <= (cluster["metadata"].get("labels") or {}).items()
        ]
        if clusters:  # without one, the policy is the garbage collector's
            wanted = policy_object(namespace, clusters, settings.namespace, settings.network)
            if not is_in_force(current, wanted):
                await self._mirrored.apply(wanted)
        return Result()


def build_policies(
    world: World, client: KubeClient, settings: Settings, *, metrics: RuntimeMetrics | None = None
) -> Part:
    """Return the controller and its mirror.

    Args:
        world: Mirrors.
        client: The leader's.
        settings: Which namespaces, and whom policies admit.
        metrics: Told of reconciles and watches.
    """
    name = f"metadata.name={POLICY_NAME}"
    policies = mirror(client, NETWORK_POLICIES, settings.watch_namespaces, field_selector=name, observer=metrics)
    controller = PolicyController(client, world.ray_clusters, policies, settings=settings)
    return Part((controller.controller(observer=metrics),), (policies,))


def _namespace(change: Change) -> tuple[Key, ...]:
    return (Key("", change.key.namespace),) if is_new_generation(change) or _owners(change) else ()


def _owners(change: Change) -> bool:
    """Say whether owners or labels of an object changed, which makes no generation."""
    old, new = change.old, change.new
    fields = ("ownerReferences", "labels")
    return (
        old is not None
        and new is not None
        and any(old["metadata"].get(field) != new["metadata"].get(field) for field in fields)
    )
