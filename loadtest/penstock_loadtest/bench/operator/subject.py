"""The operator process under measurement."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from penstock_loadtest.bench.processes import Process, free_port

USER = "operator"
NAMESPACE = "penstock"
_PREFIX = "PENSTOCK_OPERATOR_"


def compile_bytecode(cache: Path) -> None:
    """Have the operator's modules compiled once, as they are in its image."""
    subprocess.run(
        [sys.executable, "-c", "import penstock_operator.app"], env={**os.environ, **_cached(cache)}, check=True
    )


def _cached(cache: Path) -> dict[str, str]:
    return {"PYTHONPYCACHEPREFIX": str(cache.absolute()), "PYTHONDONTWRITEBYTECODE": ""}


class Operator:
    """One real operator process."""

    def __init__(self, kubeconfig: Path, dashboard_url: str, folder: Path, bytecode: Path) -> None:
        """Start it.

        Args:
            kubeconfig: Whom it talks to, and as whom.
            dashboard_url: Format string of Ray's dashboards.
            folder: For its log, its spool and its pepper.
            bytecode: Folder that `compile_bytecode` filled.
        """
        self._port = free_port()
        pepper = folder / "pepper"
        pepper.write_text(os.urandom(32).hex())
        environment = {
            "ACCESS_KUBECONFIG": str(kubeconfig),
            "NAMESPACE": NAMESPACE,
            "POD_NAME": "penstock-operator-0",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(self._port),
            "SPOOL_DIRECTORY": str(folder / "spool"),
            "PEPPER_FILE": str(pepper),
            "RAY__DASHBOARD_URL": dashboard_url,
        }
        self.process = Process(
            "the operator",
            [sys.executable, "-m", "penstock_operator"],
            log=folder / "operator.log",
            env=_cached(bytecode) | {f"{_PREFIX}{name}": value for name, value in environment.items()},
        )

    async def api_calls(self) -> Counter[str]:
        """Return its own count of finished API calls by `verb resource`, without watches and the lease.

        Empty when it does not answer.
        """
        async with httpx2.AsyncClient(trust_env=False, timeout=10.0) as client:
            try:
                page = (await client.get(f"http://127.0.0.1:{self._port}/metrics")).text
            except httpx2.HTTPError:
                return Counter()
        counts: Counter[str] = Counter()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == "penstock_operator_api_call_seconds_count":
                    verb, resource = sample.labels["verb"], sample.labels["resource"]
                    if verb != "watch" and resource != "leases":
                        counts[f"{verb} {resource}"] += int(sample.value)
        return counts
