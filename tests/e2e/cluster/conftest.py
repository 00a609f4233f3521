"""One node for the whole folder, and the whole way of a user on it, gone once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import journey
from tests.e2e.cluster.record import Record
from tests.support.node import images, node

OUTPUT = Path(os.environ.get("PENSTOCK_E2E_OUTPUT", images.ROOT / "build" / "e2e"))


@pytest.fixture(scope="package")
def report() -> dict[str, Any]:
    """Go the whole way and return the report; when a step failed, it says so and lacks what would have come after."""
    record = Record(OUTPUT / "report.json")
    try:
        with record.step("images of gateway, operator, engine and load test"):
            layouts = images.ready()
        record.say("a node: kubelet, containerd, kube-proxy, CoreDNS, KubeRay")
        with node(OUTPUT / "logs", layouts) as running:
            journey.run(running, record)
    except Exception as error:  # noqa: BLE001 - whatever it is, what went well before is judged by the tests
        record.note(failure=f"{type(error).__name__}: {error}")
        record.say(f"FAILED: {error}")
    return record.report
