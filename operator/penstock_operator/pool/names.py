"""Names and labels of what pools own."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

MANAGED: Final = {"app.kubernetes.io/managed-by": "penstock"}
"""Labels of RayClusters and of their pods that are ours."""
MANAGED_SELECTOR: Final = ",".join(f"{name}={value}" for name, value in MANAGED.items())
CLUSTER_LABEL: Final = "ray.io/cluster"
"""KubeRay's label on pods: the RayCluster's name."""
NODE_GROUP_LABEL: Final = "ray.io/group"
"""KubeRay's label on pods: the worker group's name."""
HEAD_CONTAINER: Final = "head"
ENGINE_CONTAINER: Final = "engine"
"""The container of a worker pod that runs Ray and thereby the engine; `spec.podTemplate` merges by it."""
_LONGEST_SLUG = 30


def digest(data: Any) -> str:
    """Return ten hex digits over JSON data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:10]


def slug(text: str) -> str:
    """Return the start of a name, in the letters that every kind of name may have."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:_LONGEST_SLUG].strip("-")


def head_service(cluster: str) -> str:
    """Return the name that KubeRay gives a cluster's head service."""
    return f"{cluster}-head-svc"
