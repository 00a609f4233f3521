"""What Ray Serve says it runs: `GET /api/serve/applications/`, read into types.

The reading is tolerant: Ray adds fields and states from release to release, and an answer that a newer Ray gives must
not blind the operator. Only what is used is read, and an unknown state is kept as its own word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

REPLICA_PREFIX = "SERVE_REPLICA::"
"""Targets under other names are Serve's own proxies, which stand in while an application has no running replica."""


class ObservedReplica(msgspec.Struct, frozen=True, kw_only=True):
    """One replica of one application."""

    id: str
    state: str
    """`STARTING`, `RUNNING`, `UPDATING`, `RECOVERING`, `PENDING_MIGRATION`, `STOPPING` or `STOPPED`."""
    node_id: str
    node_ip: str
    pid: int | None
    """None for the first second of a start."""
    started_s: float
    """Unix seconds at which the actor was started."""
    address: str | None = None
    """Where the engine listens; None until Serve lists it as a target."""
    port: int | None = None

    @property
    def is_live(self) -> bool:
        """Say whether it counts towards the target: starting or running, and not on its way out."""
        return self.state not in {"STOPPING", "STOPPED"}


class ObservedApplication(msgspec.Struct, frozen=True, kw_only=True):
    """One Serve application with its only deployment."""

    name: str
    status: str
    """`NOT_STARTED`, `DEPLOYING`, `RUNNING`, `UNHEALTHY`, `DEPLOY_FAILED` or `DELETING`."""
    message: str
    config: Mapping[str, Any] | None
    """The configuration as last PUT, without defaults."""
    deployment: str | None = None
    """None while Serve builds the application."""
    deployment_status: str | None = None
    target: int | None = None
    """Replicas Serve aims at; None while it builds."""
    replicas: tuple[ObservedReplica, ...] = ()

    @property
    def asked(self) -> int:
        """Replicas that Serve aims at; while it builds, those that it was given."""
        if self.target is not None:
            return self.target
        deployments = (self.config or {}).get("deployments") or [{}]
        return int(deployments[0].get("num_replicas") or 1)

    @property
    def has_failed(self) -> bool:
        """Say whether Serve has given up: it tries a start three times and then waits to be told."""
        return "DEPLOY_FAILED" in {self.status, self.deployment_status}


class ServeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in one answer."""

    started: bool
    """False before the first PUT and after a DELETE: no Serve controller is there."""
    applications: Mapping[str, ObservedApplication]


def parse_status(answer: Mapping[str, Any]) -> ServeStatus:
    """Read a decoded answer of `GET /api/serve/applications/`."""
    targets = _targets(answer.get("target_groups") or ())
    applications = answer.get("applications") or {}
    return ServeStatus(
        started=bool(answer.get("controller_info")),
        applications={name: _application(name, details, targets) for name, details in applications.items()},
    )


def failure_reason(message: str) -> str:
    """Return the line of a Serve message that a person needs: the innermost error, without traceback or colours."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line for line in lines if _looks_like_error(line)]
    return (errors or lines or [""])[-1]


def _looks_like_error(line: str) -> bool:
    name, colon, rest = line.partition(": ")
    simple = name.rpartition(".")[2]
    return bool(colon and rest) and simple.isidentifier() and simple.endswith(("Error", "Exception", "Exit"))


def _targets(groups: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, int]]:
    """Return where each replica listens, by its actor's name."""
    return {
        target["name"]: (target["ip"], target["port"])
        for group in groups
        if group.get("protocol", "HTTP") == "HTTP"
        for target in group.get("targets") or ()
        if str(target.get("name", "")).startswith(REPLICA_PREFIX)
    }


def _application(name: str, details: Mapping[str, Any], targets: Mapping[str, tuple[str, int]]) -> ObservedApplication:
    deployments = details.get("deployments") or {}
    common = ObservedApplication(
        name=name,
        status=details.get("status") or "NOT_STARTED",
        message=details.get("message") or "",
        config=details.get("deployed_app_config"),
    )
    if not deployments:
        return common
    deployment, found = next(iter(deployments.items()))
    return msgspec.structs.replace(
        common,
        message=found.get("message") or common.message,
        deployment=deployment,
        deployment_status=found.get("status"),
        target=found.get("target_num_replicas"),
        replicas=tuple(_replica(replica, targets) for replica in found.get("replicas") or ()),
    )


def _replica(details: Mapping[str, Any], targets: Mapping[str, tuple[str, int]]) -> ObservedReplica:
    address, port = targets.get(details.get("actor_name") or "", (None, None))
    return ObservedReplica(
        id=details["replica_id"],
        state=details.get("state") or "STARTING",
        node_id=details.get("node_id") or "",
        node_ip=details.get("node_ip") or "",
        pid=details.get("pid"),
        started_s=details.get("start_time_s") or 0.0,
        address=address,
        port=port,
    )
