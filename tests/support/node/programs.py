"""Command line and configuration of each program of a node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import binaries
from tests.support.node.credentials import API_PORT, NODE_NAME, SERVICE_RANGE, Credentials
from tests.support.node.init import ADDRESS
from tests.support.node.namespaces import CNI_PLUGINS

POD_RANGE = "10.244.0.0/16"
NODE_POD_RANGE = "10.244.0.0/24"
ETCD = "http://127.0.0.1:2379"
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
PAUSE_IMAGE = "localhost/penstock-pause:1"
CLUSTER_DOMAIN = "cluster.local"
CONTAINERD_CONFIG = """\
version = 2
root = "{root}"
state = "/run/containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Machines that are containers themselves may not lower the score, and then no pod would start.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{networks}"
"""
COREFILE = """\
{domain}:53 in-addr.arpa:53 {{
    bind {address}
    errors
    ready {address}:8181
    kubernetes {domain} in-addr.arpa {{
        kubeconfig {kubeconfig} node
        fallthrough in-addr.arpa
    }}
    cache 5
}}
.:53 {{
    bind {address}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


@dataclass(frozen=True)
class Folders:
    """Where a node keeps what."""

    volatile: Path
    """Configuration, etcd's data and pods' volumes: gone with the node."""
    logs: Path
    """Stays."""
    images: Path
    """containerd's own store: stays, so that the next node need not import the images again."""


@dataclass(frozen=True)
class Programs:
    """The command line of each program; calling one writes the configuration it reads."""

    folders: Folders
    credentials: Credentials
    cgroup: str
    """kubelet's root among the cgroups."""

    def etcd(self) -> list[str]:
        """Return etcd's command line."""
        return [
            str(binaries.find("etcd")),
            f"--data-dir={self.folders.volatile / 'etcd'}",
            f"--listen-client-urls={ETCD}",
            f"--advertise-client-urls={ETCD}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def apiserver(self) -> list[str]:
        """Return kube-apiserver's command line."""
        return [
            str(binaries.find("kube-apiserver")),
            f"--etcd-servers={ETCD}",
            f"--advertise-address={ADDRESS}",
            f"--secure-port={API_PORT}",
            f"--tls-cert-file={self.credentials.certificate}",
            f"--tls-private-key-file={self.credentials.key}",
            f"--service-account-key-file={self.credentials.service_account_key}",
            f"--service-account-signing-key-file={self.credentials.service_account_key}",
            f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--token-auth-file={self.credentials.tokens}",
            "--authorization-mode=Node,RBAC",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
            "--shutdown-delay-duration=0s",
        ]

    def controller_manager(self) -> list[str]:
        """Return kube-controller-manager's command line."""
        return [
            str(binaries.find("kube-controller-manager")),
            f"--kubeconfig={self.credentials.kubeconfig('system:kube-controller-manager')}",
            "--allocate-node-cidrs=true",
            f"--cluster-cidr={POD_RANGE}",
            "--use-service-account-credentials=true",
            f"--root-ca-file={self.credentials.certificate}",
            f"--service-account-private-key-file={self.credentials.service_account_key}",
            "--leader-elect=false",
        ]

    def scheduler(self) -> list[str]:
        """Return kube-scheduler's command line."""
        kubeconfig = self.credentials.kubeconfig("system:kube-scheduler")
        return [str(binaries.find("kube-scheduler")), f"--kubeconfig={kubeconfig}", "--leader-elect=false"]

    def containerd(self) -> list[str]:
        """Return containerd's command line; pods' network is configured here too."""
        networks = self.folders.volatile / "cni"
        networks.mkdir(exist_ok=True)
        addresses = {"type": "host-local", "ranges": [[{"subnet": NODE_POD_RANGE}]], "routes": [{"dst": "0.0.0.0/0"}]}
        # Each pod on a link of its own, so that what passes between pods is routed, and a Service's translation undone.
        plugins = [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {**addresses, "dataDir": str(self.folders.volatile / "addresses")},
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ]
        network = {"cniVersion": "0.4.0", "name": "node", "plugins": plugins}
        (networks / "10-node.conflist").write_text(json.dumps(network))
        config = self.folders.volatile / "containerd.toml"
        config.write_text(
            CONTAINERD_CONFIG.format(
                root=self.folders.images,
                socket=CONTAINERD_SOCKET,
                pause=PAUSE_IMAGE,
                plugins=CNI_PLUGINS,
                networks=networks,
            )
        )
        return ["containerd", f"--config={config}"]

    def kubelet(self) -> list[str]:
        """Return kubelet's command line."""
        resolv = self.folders.volatile / "resolv.conf"
        resolv.write_text(f"nameserver {ADDRESS}\n")
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            # Nobody outside the node's own network can reach kubelet.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.cgroup,
            "failCgroupV1": False,
            "failSwapOn": False,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            # There is no registry to pull an image again from.
            "imageGCHighThresholdPercent": 100,
            "clusterDNS": [ADDRESS],
            "clusterDomain": CLUSTER_DOMAIN,
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "resolvConf": str(resolv),
            "podLogsDir": str(self.folders.logs / "pods"),
            "syncFrequency": "10s",
        }
        return [
            str(binaries.find("kubelet")),
            f"--config={self._write('kubelet', config)}",
            f"--kubeconfig={self.credentials.kubeconfig(f'system:node:{NODE_NAME}')}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={ADDRESS}",
            f"--root-dir={self.folders.volatile / 'kubelet'}",
        ]

    def proxy(self) -> list[str]:
        """Return kube-proxy's command line."""
        config = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": str(self.credentials.kubeconfig("system:kube-proxy"))},
            "clusterCIDR": POD_RANGE,
            "conntrack": {"maxPerCore": 0},
            "hostnameOverride": NODE_NAME,
        }
        return [str(binaries.find("kube-proxy")), f"--config={self._write('kube-proxy', config)}"]

    def coredns(self) -> list[str]:
        """Return CoreDNS's command line: names of the cluster, and no others."""
        corefile = self.folders.volatile / "Corefile"
        kubeconfig = self.credentials.kubeconfig("system:coredns")
        corefile.write_text(COREFILE.format(address=ADDRESS, domain=CLUSTER_DOMAIN, kubeconfig=kubeconfig))
        return [str(binaries.find("coredns")), "-conf", str(corefile)]

    def kuberay(self) -> list[str]:
        """Return the KubeRay operator's command line."""
        return [
            str(binaries.find("kuberay-operator")),
            f"-kubeconfig={self.credentials.kubeconfig('kuberay-operator')}",
            "-enable-leader-election=false",
            f"-metrics-addr={ADDRESS}:8087",
            f"-health-probe-bind-address={ADDRESS}:8082",
        ]

    def _write(self, name: str, config: Mapping[str, Any]) -> Path:
        path = self.folders.volatile / f"{name}.yaml"
        path.write_text(json.dumps(config))
        return path
