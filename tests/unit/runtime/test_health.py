"""Probes and metrics over HTTP."""

import httpx2
import pytest
from prometheus_client import CollectorRegistry, Counter

from penstock_operator.runtime.health import Health, serve_health

pytestmark = pytest.mark.anyio


async def test_probes_say_what_is_wrong():
    health, registry = Health(), CollectorRegistry()
    Counter("seen", "Things seen.", registry=registry).inc()
    state = {"models": "the first list is not read yet", "loop": None}
    health.add_readiness("models", lambda: state["models"])
    health.add_liveness("loop", lambda: state["loop"])
    async with (
        serve_health(health, registry, host="127.0.0.1", port=0) as port,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        assert (await client.get("/livez")).status_code == 200
        not_ready = await client.get("/readyz")
        assert (not_ready.status_code, not_ready.text) == (503, "models: the first list is not read yet")
        state["models"] = None
        assert (await client.get("/readyz")).text == "ok"
        state["loop"] = "stuck"
        assert (await client.get("/livez")).status_code == 503
        assert (await client.get("/readyz")).status_code == 503
        assert "seen_total 1.0" in (await client.get("/metrics")).text
