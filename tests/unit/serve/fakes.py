"""Ray Serve's rules for configurations and counts, small enough to run thousands of times."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

from penstock.serve.applications import Application
from penstock.serve.plan import PutConfig, ScaleTo
from penstock.serve.status import ServeStatus, parse_status


def application(name: str, argv: tuple[str, ...] = ("--model", "x"), **changes: Any) -> Application:
    values: dict[str, Any] = {
        "name": name,
        "model": name,
        "accelerator_class": "cpu",
        "accelerators": 1,
        "purchase": "OnDemand",
        "usd_per_hour": Decimal("0.10"),
        "engine": "vllm",
        "argv": argv,
        "num_cpus": 1.0,
        "num_gpus": 0.0,
        "resources": {},
        "env": {"OMP_NUM_THREADS": "1"},
        "drain_timeout_s": 600.0,
    }
    return Application(**(values | changes))


class Serve:
    """What a PUT and a scale call do to a Serve that builds at once or when told."""

    def __init__(self) -> None:
        self.configs: dict[str, dict[str, Any]] = {}
        self.targets: dict[str, int] = {}
        self.building: set[str] = set()
        self.restarts: list[str] = []

    def apply(self, action: PutConfig | ScaleTo) -> None:
        if isinstance(action, PutConfig):
            self.put(action.body)
        elif action.application not in self.building:
            self.targets[action.application] = action.replicas

    def put(self, body: dict[str, Any]) -> None:
        configs = {app["name"]: copy.deepcopy(app) for app in body["applications"]}
        for name, config in configs.items():
            [deployment] = config["deployments"]
            assert deployment["num_replicas"] >= 1, "Serve refuses zero"
            old = self.configs.get(name)
            if old is None or (old["args"], old["import_path"]) != (config["args"], config["import_path"]):
                self.restarts.append(name)
                self.building.add(name)
            self.targets[name] = deployment["num_replicas"]
        for name in self.configs.keys() - configs.keys():
            del self.targets[name]
        self.configs = configs

    def build(self) -> None:
        self.building.clear()

    def status(self) -> ServeStatus:
        return parse_status(
            {
                "controller_info": {"node_id": "n"} if self.configs else {},
                "applications": {
                    name: {
                        "status": "DEPLOYING" if name in self.building else "RUNNING",
                        "deployed_app_config": config,
                        "deployments": {} if name in self.building else {"Engine": self._deployment(name)},
                    }
                    for name, config in self.configs.items()
                },
            }
        )

    def _deployment(self, name: str) -> dict[str, Any]:
        return {
            "status": "HEALTHY",
            "status_trigger": "CONFIG_UPDATE_COMPLETED",
            "target_num_replicas": self.targets[name],
            "replicas": [
                {
                    "replica_id": f"{name}-{n}",
                    "state": "RUNNING",
                    "node_id": "n",
                    "node_ip": "10.0.0.1",
                    "pid": 100 + n,
                    "start_time_s": n,
                }
                for n in range(self.targets[name])
            ],
        }
