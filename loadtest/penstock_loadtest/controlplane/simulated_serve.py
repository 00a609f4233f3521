"""One Ray Serve as its REST API shows it, without processes: replicas are records, and time is passed in.

It keeps to what was measured of Ray Serve 2.60: a PUT is the whole set and resets the counts of what it changes, a
scale call during a build is answered and lost, the surplus leaves in Ray's order, and what is stopped drains first.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

HEAD_NODE = "head"
_VERSION_FIELDS = ("import_path", "runtime_env", "args")
_FAILED_STARTS = 3
_NUMBERS = itertools.count()
"""Tells clusters apart: no two of Ray's replicas have one id, wherever they run."""

Address = tuple[str, int]
Listen = Callable[[str, str], Address]
"""Told application and replica id of one that runs from now on; returns where it listens."""
Leave = Callable[[str], None]
"""Told the id of a replica that is gone."""


class RefusedError(Exception):
    """The API answers an error; the status comes first."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(f"{status}: {text}")


@dataclass
class Behaviour:
    """How applications behave. Keys are patterns of application names (`llama--*`); the first that matches counts."""

    build_s: float = 0.0
    start_s: float = 0.0
    """From STARTING to RUNNING."""
    drain_s: float = 0.0
    """From STOPPING to gone."""
    refused: dict[str, str] = field(default_factory=dict)
    """A PUT that holds such an application is answered 400 with this text."""
    failing: dict[str, str] = field(default_factory=dict)
    """Replicas end at the end of their start with this text; after three, Serve gives up with DEPLOY_FAILED."""
    starving: set[str] = field(default_factory=set)
    """Nodes have no room: replicas stay in STARTING."""
    draining: set[str] = field(default_factory=set)
    """Streams never end: replicas stay in STOPPING."""

    def refusal(self, names: Iterable[str]) -> str | None:
        """Return why a PUT of these applications is refused, or None."""
        return next((text for name in names if (text := _match(self.refused, name)) is not None), None)


@dataclass
class _Replica:
    id: str
    application: str
    version: str
    node: str
    started_s: float
    pid: int
    address: Address | None = None
    state: str = "STARTING"
    stopping_s: float = 0.0

    @property
    def actor(self) -> str:
        return f"SERVE_REPLICA::{self.application}#Engine#{self.id}"


@dataclass
class _Application:
    config: dict[str, Any]
    version: str
    deployed_s: float
    target: int
    built_s: float
    """When the build ends; the deployment is invisible until then."""
    replicas: list[_Replica] = field(default_factory=list)
    deleting: bool = False
    settled: bool = False
    """Whether the newest configuration has had all its replicas running once."""
    failures: int = 0
    message: str = ""

    @property
    def live(self) -> list[_Replica]:
        return [r for r in self.replicas if r.state in {"STARTING", "RUNNING"} and r.version == self.version]


class SimulatedServe:
    """Serve of one Ray cluster. Every method takes the time in Unix seconds, which Serve shows as start times."""

    def __init__(self, behaviour: Behaviour, listen: Listen, leave: Leave, node_ip: str) -> None:
        self.behaviour = behaviour
        self.puts: list[dict[str, Any]] = []
        """Bodies that were taken."""
        self.scales: list[tuple[str, int]] = []
        """Application and number of each scale call that was answered with 200."""
        self._listen, self._leave, self._node_ip = listen, leave, node_ip
        self._applications: dict[str, _Application] = {}
        self._started = False
        self._next_id = 0
        self._number = next(_NUMBERS)

    def put(self, config: Mapping[str, Any], now_s: float) -> None:
        """Replace the set of applications.

        Raises:
            RefusedError: Serve would answer 400.
        """
        self._advance(now_s)
        wanted = _checked(config)
        refusal = self.behaviour.refusal(wanted)
        if refusal is not None:
            raise RefusedError(400, refusal)
        self._started = True
        self.puts.append(dict(config))
        for name, application in self._applications.items():
            if name not in wanted:
                application.deleting = True
                application.target = 0
        for name, body in wanted.items():
            self._deploy(name, body, now_s)
        self._advance(now_s)

    def scale(self, name: str, deployment: str, body: Any, now_s: float) -> None:
        """Ask for a number of replicas.

        Raises:
            RefusedError: no such deployment, or it is not scaled from outside, or the body is malformed.
        """
        self._advance(now_s)
        count = body.get("target_num_replicas") if isinstance(body, dict) else None
        if not isinstance(count, int) or count < 0:
            raise RefusedError(400, f"Invalid request body: target_num_replicas is {count!r}")
        if not self._started:
            raise RefusedError(503, "Serve controller is not available")
        application = self._applications.get(name)
        if application is None or deployment not in _deployments(application.config):
            raise RefusedError(404, "Application or Deployment not found")
        if application.deleting:
            raise RefusedError(412, "Deployment is deleted")
        if not application.config.get("external_scaler_enabled"):
            raise RefusedError(412, f"external scaler is not enabled for application {name!r}")
        self.scales.append((name, count))
        if now_s >= application.built_s:  # during a build it is answered and lost
            application.target = count
        self._advance(now_s)

    def shut_down(self, now_s: float) -> None:
        """Delete every application and stop Serve, as DELETE does."""
        self._advance(now_s)
        for application in self._applications.values():
            application.deleting, application.target = True, 0
        self._started = False
        self._advance(now_s)

    def lose_everything(self) -> None:
        """Forget all at once, as when a head without fault tolerance dies."""
        for application in self._applications.values():
            for replica in application.replicas:
                self._leave(replica.id)
        self._applications.clear()
        self._started = False

    def kill_replica(self, replica_id: str, now_s: float) -> None:
        """Have a replica's process end; Serve starts another in its place.

        Raises:
            LookupError: there is none of that id.
        """
        self._advance(now_s)
        for application in self._applications.values():
            for replica in application.replicas:
                if replica.id == replica_id:
                    application.replicas.remove(replica)
                    self._leave(replica.id)
                    self._advance(now_s)
                    return
        raise LookupError(f"no replica {replica_id!r}")

    def details(self, now_s: float) -> dict[str, Any]:
        """Return the answer of `GET /api/serve/applications/`."""
        self._advance(now_s)
        return {
            "controller_info": {"node_id": HEAD_NODE, "actor_name": "SERVE_CONTROLLER_ACTOR"} if self._started else {},
            "applications": {name: self._application(app, now_s) for name, app in self._applications.items()},
            "target_groups": [self._group(name, app, now_s) for name, app in self._applications.items()],
        }

    def _deploy(self, name: str, body: dict[str, Any], now_s: float) -> None:
        current = self._applications.get(name)
        if current is not None and current.config == body and not current.deleting:
            return
        count = int(_deployments(body)["Engine"].get("num_replicas", 1))
        version = _version(body)
        rebuilt = current is None or current.version != version or current.deleting
        self._applications[name] = _Application(
            config=body,
            version=version,
            deployed_s=now_s,
            target=count,
            built_s=now_s + self.behaviour.build_s if rebuilt or current is None else current.built_s,
            replicas=[] if current is None else current.replicas,
        )

    def _advance(self, now_s: float) -> None:
        for name in list(self._applications):
            application = self._applications[name]
            self._start_and_stop(name, application, now_s)
            self._end_drained(name, application, now_s)
            if application.deleting and not application.replicas:
                del self._applications[name]

    def _start_and_stop(self, name: str, application: _Application, now_s: float) -> None:
        if now_s < application.built_s:
            return
        for replica in application.live:
            self._finish_start(application, replica, now_s)
        while len(application.live) < application.target and application.failures < _FAILED_STARTS:
            replica = self._new_replica(name, application, now_s)
            application.replicas.append(replica)
            self._finish_start(application, replica, now_s)
        for replica in self._surplus(application):
            replica.state, replica.stopping_s = "STOPPING", now_s
        running = sum(replica.state == "RUNNING" for replica in application.live)
        if running >= application.target:  # the surge is over: what went before may go
            application.settled = True
            for replica in application.replicas:
                if replica.version != application.version and replica.state != "STOPPING":
                    replica.state, replica.stopping_s = "STOPPING", now_s

    def _new_replica(self, name: str, application: _Application, now_s: float) -> _Replica:
        self._next_id += 1
        replica_id = hashlib.sha256(f"{self._number}/{name}/{self._next_id}".encode()).hexdigest()[:8]
        node = f"{application.config.get('args', {}).get('group', 'worker')}-{self._next_id}"
        return _Replica(replica_id, name, application.version, node, now_s, 10_000 + self._next_id)

    def _finish_start(self, application: _Application, replica: _Replica, now_s: float) -> None:
        if replica.state != "STARTING" or now_s - replica.started_s < self.behaviour.start_s:
            return
        failure = _match(self.behaviour.failing, replica.application)
        if failure is not None:
            application.failures += 1
            application.message = failure
            application.replicas.remove(replica)
        elif not any(fnmatchcase(replica.application, pattern) for pattern in self.behaviour.starving):
            replica.state = "RUNNING"
            replica.address = self._listen(replica.application, replica.id)

    def _surplus(self, application: _Application) -> list[_Replica]:
        """Return whom Ray stops: those that do not run, then off the head, on the emptiest nodes, the newest first."""
        crowd: dict[str, int] = {}
        for other in self._applications.values():
            for replica in other.replicas:
                crowd[replica.node] = crowd.get(replica.node, 0) + (replica.state == "RUNNING")
        live = application.live
        order = sorted(
            live,
            key=lambda r: (r.state == "RUNNING", r.node == HEAD_NODE, crowd[r.node], r.node, -r.started_s),
        )
        return order[: max(0, len(live) - application.target)]

    def _end_drained(self, name: str, application: _Application, now_s: float) -> None:
        if any(fnmatchcase(name, pattern) for pattern in self.behaviour.draining):
            return
        for replica in list(application.replicas):
            if replica.state == "STOPPING" and now_s - replica.stopping_s >= self.behaviour.drain_s:
                application.replicas.remove(replica)
                self._leave(replica.id)

    def _application(self, application: _Application, now_s: float) -> dict[str, Any]:
        gave_up = application.failures >= _FAILED_STARTS
        building = now_s < application.built_s
        if application.deleting:
            status, inner = "DELETING", "UPDATING"
        elif gave_up:
            status, inner = "DEPLOY_FAILED", "DEPLOY_FAILED"
        elif building or not application.settled:
            status, inner = "DEPLOYING", "UPDATING"
        else:
            status, inner = "RUNNING", "HEALTHY"
        shown = {
            "status": status,
            "message": "",
            "deployed_app_config": application.config,
            "deployments": {},
            "route_prefix": application.config.get("route_prefix"),
        }
        if not building:
            shown["deployments"] = {
                "Engine": {
                    "name": "Engine",
                    "status": inner,
                    "status_trigger": "CONFIG_UPDATE_COMPLETED" if inner == "HEALTHY" else "CONFIG_UPDATE_STARTED",
                    "message": application.message,
                    "target_num_replicas": application.target,
                    "replicas": [self._replica(replica) for replica in application.replicas],
                }
            }
        return shown

    def _replica(self, replica: _Replica) -> dict[str, Any]:
        return {
            "replica_id": replica.id,
            "actor_name": replica.actor,
            "state": replica.state,
            "node_id": replica.node,
            "node_ip": self._node_ip,
            "pid": replica.pid,
            "start_time_s": replica.started_s,
        }

    def _group(self, name: str, application: _Application, now_s: float) -> dict[str, Any]:
        running = [replica for replica in application.replicas if replica.state == "RUNNING"]
        if now_s < application.built_s or not running:
            targets = [{"ip": self._node_ip, "port": 8000, "name": "SERVE_PROXY_ACTOR-head"}]
        else:
            targets = [
                {"ip": replica.address[0], "port": replica.address[1], "name": replica.actor}
                for replica in running
                if replica.address is not None
            ]
        prefix = application.config.get("route_prefix")
        return {"app_name": name, "route_prefix": prefix, "protocol": "HTTP", "targets": targets}


def _match(table: Mapping[str, str], name: str) -> str | None:
    return next((text for pattern, text in table.items() if fnmatchcase(name, pattern)), None)


def _deployments(body: Mapping[str, Any]) -> dict[str, Any]:
    return {each.get("name"): each for each in body.get("deployments", ())}


def _version(body: Mapping[str, Any]) -> str:
    options = _deployments(body)["Engine"].get("ray_actor_options")
    essence = [body.get(name) for name in _VERSION_FIELDS]
    return hashlib.sha256(json.dumps([essence, options], sort_keys=True).encode()).hexdigest()[:12]


def _checked(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the applications by name.

    Raises:
        RefusedError: Serve's own schema would refuse this.
    """
    bodies = config.get("applications")
    if not isinstance(bodies, list):
        raise RefusedError(400, "applications: Field required")
    names = [body.get("name") for body in bodies]
    prefixes = [body.get("route_prefix") for body in bodies]
    if len(set(names)) < len(names):
        raise RefusedError(400, f"Found multiple applications with the same name: {names}")
    if len(set(prefixes)) < len(prefixes):
        raise RefusedError(400, f"Found duplicate applications for routes: {prefixes}")
    for body in bodies:
        deployment = _deployments(body).get("Engine", {})
        if not isinstance(body.get("import_path"), str):
            raise RefusedError(400, f"applications.{body.get('name')}.import_path: Field required")
        if "Engine" not in _deployments(body):
            raise RefusedError(400, f"Deployment Engine is not in the application {body.get('name')!r}")
        if deployment.get("num_replicas", 1) in {0, None}:
            raise RefusedError(400, "deployments.0.num_replicas: Input should be greater than 0")
    return {body["name"]: body for body in bodies}
