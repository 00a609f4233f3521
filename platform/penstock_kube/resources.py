"""Kinds of objects, and the paths they live at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

Object = Mapping[str, Any]
"""A Kubernetes object as JSON data. Those from a store are shared: never edit them in place."""


class Key(NamedTuple):
    """What tells objects of one kind apart."""

    namespace: str
    """Empty for cluster-scoped kinds."""
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def key_of(obj: Object) -> Key:
    """Return an object's key."""
    metadata = obj["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object that the API server holds."""

    group: str
    """Empty for the core group."""
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """Group and version, as `apiVersion` has them."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path of an object or, without a name, of a collection.

        Args:
            namespace: empty for cluster-scoped kinds, and for the collection over all namespaces.
            name: empty for the collection.
            subresource: `status`, `scale`, or empty for the object itself.

        Raises:
            ValueError: an object of a namespaced kind without its namespace, or the other way round.
        """
        if name and bool(namespace) != self.namespaced:
            expected = "needs a namespace" if self.namespaced else "has no namespace"
            raise ValueError(f"{self.kind} {name!r} {expected}, and {namespace!r} is given")
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        parts = (self.plural, name, subresource)
        return "/".join([root + inside, *(quote(part, safe="") for part in parts if part)])


MODELS = Kind("penstock.dev", "v1alpha1", "Model", "models")
ACCELERATOR_CLASSES = Kind("penstock.dev", "v1alpha1", "AcceleratorClass", "acceleratorclasses", namespaced=False)
ROUTES = Kind("penstock.dev", "v1alpha1", "Route", "routes")
TENANTS = Kind("penstock.dev", "v1alpha1", "Tenant", "tenants")
RAY_CLUSTERS = Kind("ray.io", "v1", "RayCluster", "rayclusters")
CONFIG_MAPS = Kind("", "v1", "ConfigMap", "configmaps")
SECRETS = Kind("", "v1", "Secret", "secrets")
SERVICES = Kind("", "v1", "Service", "services")
PODS = Kind("", "v1", "Pod", "pods")
NODES = Kind("", "v1", "Node", "nodes", namespaced=False)
EVENTS = Kind("", "v1", "Event", "events")
ENDPOINT_SLICES = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
LEASES = Kind("coordination.k8s.io", "v1", "Lease", "leases")
DEPLOYMENTS = Kind("apps", "v1", "Deployment", "deployments")
DAEMON_SETS = Kind("apps", "v1", "DaemonSet", "daemonsets")
JOBS = Kind("batch", "v1", "Job", "jobs")
PERSISTENT_VOLUME_CLAIMS = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
NETWORK_POLICIES = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
