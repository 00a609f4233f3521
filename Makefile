# Each target installs what it needs by itself: a virtual environment in .venv and, as root on Debian, missing packages.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python
TEST_PACKAGES := openssl redis-server
NODE_PACKAGES := buildah conntrack containerd containernetworking-plugins debootstrap iproute2 iptables openssl runc

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install:
	@scripts/bootstrap

.PHONY: demo
demo: install ## Serve a real model here: load it, watch it scale and recover, print the bill (build/demo/)
	$(PYTHON) -m penstock demo

.PHONY: check
check: install ## The fast loop: lint, types, boundaries, unit tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	$(PYTHON) -m pytest -q tests/unit

.PHONY: test
test: check ## Everything that CI runs: check, then tests against real processes (Ray, vLLM, Redis, sockets, kube-apiserver)
	@scripts/bootstrap $(TEST_PACKAGES)
	$(PYTHON) -m pytest tests/integration tests/controlplane

.PHONY: e2e
e2e: ## The demo, then a whole Kubernetes node (Linux, root): helm install to uninstall, every promise a test (build/e2e/)
	@scripts/bootstrap $(NODE_PACKAGES)
	$(PYTHON) -m pytest tests/e2e

.PHONY: bench
bench: ## Benchmarks against baselines in the same run
	@scripts/bootstrap nginx-light openssl
	$(PYTHON) -m tests.support.binaries etcd kube-apiserver
	.venv/bin/penstock bench --json build/bench/bench.json

.PHONY: images
images: ## Build the images of gateway, operator and engine (settings: scripts/images)
	@scripts/images

.PHONY: fmt
fmt: install ## Format and fix what can be fixed
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.PHONY: docs
docs: install ## Build the documentation site into site/
	.venv/bin/mkdocs build --strict

.PHONY: clean
clean: ## Remove what the other targets made
	rm -rf .venv build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
