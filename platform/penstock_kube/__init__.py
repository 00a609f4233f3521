"""The Kubernetes client that operator and gateway share: raw JSON objects, a reflector, a lease and events."""
