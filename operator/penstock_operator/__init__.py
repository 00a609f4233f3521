"""The Kubernetes operator's package. Its controllers call the plans of `penstock.serve` and `penstock.scaling`."""
