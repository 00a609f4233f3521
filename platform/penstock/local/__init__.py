"""A platform on one machine: the operator loop without Kubernetes, its processes and its state directory."""
