"""A control plane to measure and test the operator against: real etcd and kube-apiserver, KubeRay and Serve played."""
