"""One whole Kubernetes node in namespaces of its own: real kubelet, containerd, CNI, kube-proxy, CoreDNS and KubeRay.

Linux and root only. `node()` starts it, `Node.enter()` runs commands in it, and leaving ends all of it.
"""

from tests.support.node.namespaces import UnsupportedError
from tests.support.node.node import Node, node

__all__ = ["Node", "UnsupportedError", "node"]
