"""Load for OpenAI-compatible servers: locust users, workload shapes, trace replay, reports and benchmarks."""
