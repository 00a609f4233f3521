"""An AcceleratorClass says which nodes its Models can run on, and what to do when there are none."""

import copy

import pytest

from penstock.api import parse_resource
from penstock_operator.accelerator.plan import MOST_DISCOVERED, node_view, survey, trim_node

H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559", "pool": "h100"}
L4 = {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034", "pool": "l4"}
SICK = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def accelerator(**changes):
    spec = {"vendor": "nvidia", "memory": "80Gi", "price": {"onDemandPerHour": "2.69"}} | changes
    spec = {name: value for name, value in spec.items() if value is not None}
    metadata = {"name": "nvidia-h100"}
    body = {"apiVersion": "penstock.dev/v1alpha1", "kind": "AcceleratorClass", "metadata": metadata, "spec": spec}
    return parse_resource(body)


def node(name="n", labels=None, ready="True", cordoned=False, taints=(), **allocatable):
    return node_view(
        {
            "metadata": {"name": name, "labels": labels or {}},
            "spec": {"unschedulable": cordoned, "taints": list(taints)},
            "status": {
                "allocatable": {key.replace("_", "/"): value for key, value in allocatable.items()},
                "conditions": [{"type": "Ready", "status": ready}],
            },
        }
    )


def gpus(name="n", count="8", **options):
    return node(name, **options, **{"nvidia.com_gpu": count})


def test_nodes_that_offer_the_resource_are_counted_where_there_is_no_selector():
    fields, ready = survey(accelerator(), [gpus("a"), gpus("b", "4"), node("c")])
    assert (fields["nodes"], fields["allocatable"]) == (2, 12)
    assert (ready.status, ready.reason, ready.message) == ("True", "NodesFound", "12 nvidia.com/gpu on 2 nodes")


def test_a_selector_goes_before_what_nodes_offer():
    nodes = [gpus("a", labels=H100), gpus("b", labels=L4)]
    fields, ready = survey(accelerator(nodeSelector={"pool": "h100"}), nodes)
    assert (fields["nodes"], fields["allocatable"], ready.reason) == (1, 8, "NodesFound")


def test_cores_are_counted_whole():
    cpu = accelerator(vendor="cpu", memory="4Gi", resourceName="cpu")
    fields, _ = survey(cpu, [node("a", cpu="3920m"), node("b", cpu="2")])
    assert fields["allocatable"] == 5


@pytest.mark.parametrize(
    ("changes", "nodes", "reason", "words"),
    [
        ({"price": None}, [gpus()], "PriceNotFound", "kubectl patch acceleratorclass nvidia-h100 --type merge"),
        ({}, [], "NoNodes", "no node offers nvidia.com/gpu: install its device plugin"),
        ({"nodeSelector": {"a": "b"}}, [gpus()], "NoNodes", "spec.nodeSelector (a=b)"),
        ({"nodeSelector": {"pool": "h100"}}, [node(labels=H100)], "NoAllocatable", "none offers nvidia.com/gpu"),
        ({}, [gpus(taints=[TAINT])], "NodesTainted", "nvidia.com/gpu=present:NoSchedule"),
        ({}, [gpus(cordoned=True)], "NodesNotReady", "cordoned or not ready"),
        ({}, [gpus(taints=[SICK])], "NodesNotReady", "cordoned or not ready"),
        ({}, [gpus(ready="Unknown")], "NodesNotReady", "kubectl get nodes"),
        ({}, [gpus("a", labels=H100), gpus("b", labels=L4)], "OtherAccelerators", "nvidia.com/gpu.product=NVIDIA-L4"),
    ],
)
def test_what_is_in_the_way_is_said_with_its_remedy(changes, nodes, reason, words):
    _, ready = survey(accelerator(**changes), nodes)
    assert (ready.status, ready.reason) == ("False", reason)
    assert words in ready.message


def test_nodes_with_other_accelerators_are_not_counted_and_the_right_label_is_shown():
    fields, ready = survey(accelerator(), [gpus("a", labels=H100), gpus("b", labels=L4)])
    assert (fields["nodes"], fields["allocatable"]) == (2, 8)
    assert ready.message.endswith("to a label of the right ones, nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3")


def test_an_operator_that_may_not_read_nodes_says_unknown():
    fields, ready = survey(accelerator(), None)
    assert fields == {}
    assert (ready.status, ready.reason) == ("Unknown", "NodesNotRead")


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Exists"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}, True),
        ({"key": "nvidia.com/gpu", "value": "absent"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations_are_read_as_the_scheduler_reads_them(toleration, tolerated):
    fields, ready = survey(accelerator(tolerations=[toleration]), [gpus(taints=[TAINT])])
    assert (ready.status == "True") == tolerated
    assert fields["allocatable"] == (8 if tolerated else 0)


def test_a_taint_that_only_asks_keeps_nobody_away():
    _, ready = survey(accelerator(), [gpus(taints=[TAINT | {"effect": "PreferNoSchedule"}])])
    assert ready.status == "True"


def test_discovered_labels_are_counted_and_bounded():
    fields, _ = survey(accelerator(), [gpus("a", labels=H100), gpus("b", labels=H100)])
    assert fields["discovered"][0] == {
        "label": "nvidia.com/gpu.product",
        "value": "NVIDIA-H100-80GB-HBM3",
        "nodes": 2,
    }
    many = [gpus(str(n), labels={"node.kubernetes.io/instance-type": f"t{n}"}) for n in range(50)]
    assert len(survey(accelerator(), many)[0]["discovered"]) == MOST_DISCOVERED


def test_odd_quantities_count_as_none():
    assert gpus(count="many").count("nvidia.com/gpu") == 0
    _, ready = survey(accelerator(), [gpus(labels={"nvidia.com/gpu.memory": "lots"})])
    assert ready.status == "True"


def test_nothing_that_is_trimmed_was_read():
    taken = {
        "metadata": {"name": "n", "labels": L4, "annotations": {"a": "b"}, "uid": "u", "resourceVersion": "1"},
        "spec": {"taints": [TAINT], "unschedulable": True, "podCIDR": "10.0.0.0/24"},
        "status": {
            "allocatable": {"nvidia.com/gpu": "8"},
            "conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
            "images": [{"names": ["large"]}],
        },
    }
    before = node_view(copy.deepcopy(taken))
    trim_node(taken)
    assert node_view(taken) == before
    assert "images" not in taken["status"]
    assert taken["metadata"]["resourceVersion"] == "1"
    bare = {"metadata": {"name": "n"}}
    trim_node(bare)
    assert not node_view(bare).usable
