"""Which nodes have an AcceleratorClass's accelerators, and what to say of it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.quantity import Quantity
from penstock_kube.resources import Object
from penstock_operator.runtime.conditions import Condition, find_condition

DISCOVERED: Final = (
    "nvidia.com/gpu.product",
    "nvidia.com/gpu.memory",
    "amd.com/gpu.product-name",
    "amd.com/gpu.vram",
    "cloud.google.com/gke-accelerator",
    "cloud.google.com/gke-tpu-accelerator",
    "k8s.amazonaws.com/accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "node.kubernetes.io/instance-type",
)
"""Labels that vendors' feature discovery and clouds put on nodes, those first that say most."""
MOST_DISCOVERED: Final = 32

_MEMORY_TOLERANCE: Final = 0.12
"""Drivers report up to so much less or more than a data sheet; accelerators that are different differ by more."""
_LIFECYCLE: Final = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
"""Begin the taints that come and go with a node's health; nobody is to tolerate them for a class."""
_EVICTING: Final = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True, slots=True)
class NodeView:
    """What is read of a node."""

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, Any]
    """Quantities by resource."""
    taints: tuple[Mapping[str, Any], ...]
    usable: bool
    """Whether it is ready, not cordoned, and without a taint by which Kubernetes itself says otherwise."""

    def count(self, resource: str) -> int:
        """Return how many of a resource its pods can have, in whole ones."""
        try:
            return int(Quantity(str(self.allocatable.get(resource, "0"))))
        except ValueError:
            return 0


def node_view(node: Object) -> NodeView:
    """Return what is read of a node; a change of anything else is none to us."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    ready = find_condition(node, "Ready")
    taints = [taint for taint in spec.get("taints") or () if taint.get("effect") in _EVICTING]
    own = [taint for taint in taints if str(taint.get("key")).startswith(_LIFECYCLE)]
    return NodeView(
        name=node["metadata"]["name"],
        labels=node["metadata"].get("labels") or {},
        allocatable=status.get("allocatable") or {},
        taints=tuple(taint for taint in taints if taint not in own),
        usable=not own and not spec.get("unschedulable") and ready is not None and ready["status"] == "True",
    )


def trim_node(node: dict[str, Any]) -> None:
    """Take out of a node what is not read: the images it has are most of it, and a cluster has many nodes."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    node["spec"] = {field: spec[field] for field in ("taints", "unschedulable") if field in spec}
    ready = [condition for condition in status.get("conditions") or () if condition.get("type") == "Ready"]
    node["status"] = {"allocatable": status.get("allocatable") or {}, "conditions": ready}
    node["metadata"].pop("annotations", None)


def survey(accelerator: AcceleratorClass, nodes: Sequence[NodeView] | None) -> tuple[dict[str, Any], Condition]:
    """Return an AcceleratorClass's own status fields, and whether Models can run on it.

    Args:
        accelerator: the class.
        nodes: all nodes of the cluster; None when the operator may not read them.
    """
    fields: dict[str, Any] = {}
    matched: list[NodeView] = []
    if nodes is not None:
        matched = [node for node in nodes if _matches(accelerator, node)]
        takers = [node for node in matched if _takes_pods(accelerator, node)]
        allocatable = sum(node.count(accelerator.spec.resource_name) for node in takers)
        fields = {"nodes": len(matched), "allocatable": allocatable, "discovered": _discovered(matched) or None}
    reason, message = _problem(accelerator, nodes, matched)
    if not reason:
        text = f"{fields['allocatable']} {accelerator.spec.resource_name} on {_nodes(fields['nodes'])}"
        return fields, Condition("Ready", "True", "NodesFound", text)
    return fields, Condition("Ready", "Unknown" if reason == "NodesNotRead" else "False", reason, message)


def _problem(
    accelerator: AcceleratorClass, nodes: Sequence[NodeView] | None, matched: Sequence[NodeView]
) -> tuple[str, str]:
    """Return the first thing in the way of Models on this class, as reason and remedy; empty when there is none."""
    spec, name = accelerator.spec, accelerator.name
    if spec.price is None:
        patch = '{"spec":{"price":{"onDemandPerHour":"PRICE"}}}'
        return "PriceNotFound", (
            "spec.price is missing, and Models on a class without a price are not deployed: "
            f"kubectl patch acceleratorclass {name} --type merge -p '{patch}'"
        )
    if nodes is None:
        return "NodesNotRead", "the operator may not read nodes, so that nobody looked: let it get, list and watch them"
    if not matched:
        return "NoNodes", _no_nodes(accelerator)
    return _problem_of_nodes(accelerator, matched)


def _problem_of_nodes(accelerator: AcceleratorClass, matched: Sequence[NodeView]) -> tuple[str, str]:
    """Return what keeps pods of the class from the nodes that match it; empty when some can land there."""
    spec = accelerator.spec
    others = [node for node in matched if not _is_alike(accelerator, node)]
    if others:
        return "OtherAccelerators", _other_accelerators(accelerator, matched, others)
    offering = [node for node in matched if node.count(spec.resource_name)]
    if not offering:
        plugin = "its device plugin may not run there, or spec.resourceName is wrong"
        return "NoAllocatable", f"{_nodes(len(matched))} match, and none offers {spec.resource_name}: {plugin}"
    tolerated = [node for node in offering if not _repelling(accelerator, node)]
    if not tolerated:
        taints = sorted({_taint_text(taint) for node in offering for taint in _repelling(accelerator, node)})
        return "NodesTainted", (
            f"{_nodes(len(offering))} match and offer {spec.resource_name}, and each has a taint that "
            f"spec.tolerations does not name: {', '.join(taints)}"
        )
    if not any(node.usable for node in tolerated):
        return "NodesNotReady", f"{_nodes(len(tolerated))} match, and each is cordoned or not ready: kubectl get nodes"
    return "", ""


def _no_nodes(accelerator: AcceleratorClass) -> str:
    spec = accelerator.spec
    later = "a node autoscaler may still add one when a Model asks for it"
    if spec.node_selector:
        labels = ", ".join(f"{key}={value}" for key, value in sorted(spec.node_selector.items()))
        return f"no node has the labels of spec.nodeSelector ({labels}): label the nodes or correct it; {later}"
    return f"no node offers {spec.resource_name}: install its device plugin, or add nodes that have it; {later}"


def _other_accelerators(accelerator: AcceleratorClass, matched: Sequence[NodeView], others: Sequence[NodeView]) -> str:
    alike = [node for node in matched if node not in others]
    products = sorted({_product(node) for node in others})
    wanted = next((_product(node) for node in alike), "LABEL=VALUE")
    return (
        f"{_nodes(len(others))} that its pods could land on have other accelerators ({', '.join(products)}) "
        f"than spec.memory {accelerator.spec.memory} says: set spec.nodeSelector to a label of the right ones, {wanted}"
    )


def _matches(accelerator: AcceleratorClass, node: NodeView) -> bool:
    """Return whether the class's pods are meant for a node: by its labels, else by what it offers."""
    selector = accelerator.spec.node_selector
    if selector:
        return selector.items() <= node.labels.items()
    return node.count(accelerator.spec.resource_name) > 0


def _takes_pods(accelerator: AcceleratorClass, node: NodeView) -> bool:
    return node.usable and _is_alike(accelerator, node) and not _repelling(accelerator, node)


def _is_alike(accelerator: AcceleratorClass, node: NodeView) -> bool:
    """Return whether what discovery says of a node's accelerators agrees with the class; silence agrees."""
    found = _memory_bytes(node)
    if found is None or accelerator.is_cpu:
        return True
    stated = float(accelerator.spec.memory.value)
    return abs(found - stated) <= _MEMORY_TOLERANCE * stated


def _memory_bytes(node: NodeView) -> float | None:
    for label, unit in (("nvidia.com/gpu.memory", "Mi"), ("amd.com/gpu.vram", "")):
        if label in node.labels:
            try:
                return float(Quantity(node.labels[label] + unit).value)
            except ValueError:
                return None
    return None


def _repelling(accelerator: AcceleratorClass, node: NodeView) -> list[Mapping[str, Any]]:
    """Return the taints of a node that the class's pods do not tolerate."""
    tolerations = accelerator.spec.tolerations
    return [taint for taint in node.taints if not any(_tolerates(each, taint) for each in tolerations)]


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Return whether a toleration covers a taint, as the scheduler has it."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def _discovered(nodes: Iterable[NodeView]) -> list[dict[str, Any]]:
    found = Counter((label, node.labels[label]) for node in nodes for label in DISCOVERED if label in node.labels)
    ranked = sorted(found.items(), key=lambda item: (DISCOVERED.index(item[0][0]), -item[1], item[0][1]))
    return [{"label": label, "value": value, "nodes": n} for (label, value), n in ranked[:MOST_DISCOVERED]]


def _product(node: NodeView) -> str:
    return next((f"{label}={node.labels[label]}" for label in DISCOVERED if label in node.labels), node.name)


def _taint_text(taint: Mapping[str, Any]) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key', '')}{value}:{taint.get('effect', '')}"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
