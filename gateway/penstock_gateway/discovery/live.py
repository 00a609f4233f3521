"""Live state of models and replicas: what a snapshot says of them, and what this process has seen since."""

from __future__ import annotations

import logging
from collections import Counter

from penstock.engines import Engine, UnknownEngineError, get_engine
from penstock.routing.load import ModelLoad
from penstock.routing.pick import Reason, Shares
from penstock.routing.prefix import PrefixIndex
from penstock.routing.snapshot import Replica, ReplicaState, ServedModel, Task
from penstock_gateway.relay.pool import Pool

logger = logging.getLogger(__name__)


class LiveReplica:
    """A replica with its connections and its recent past; kept from snapshot to snapshot by id and address."""

    __slots__ = (
        "backoff_s",
        "base_path",
        "draining",
        "ejected",
        "ejections",
        "heads",
        "host",
        "id",
        "in_flight",
        "in_flight_at_report",
        "kv_usage",
        "load",
        "model",
        "others",
        "pool",
        "replica",
        "reported",
        "retired",
        "running",
        "waiting",
    )

    def __init__(self, replica: Replica, model: LiveModel, load: ModelLoad, pool: Pool) -> None:
        self.replica = replica
        self.id = replica.id
        self.model = model
        self.load = load
        self.pool = pool
        host = f"[{replica.address}]" if ":" in replica.address else replica.address
        self.host = f"{host}:{replica.port}".encode()
        self.base_path = replica.base_path
        self.heads: dict[bytes, bytes] = {}
        """Start of the request head by path, made at first use."""
        self.draining = replica.state is not ReplicaState.READY
        self.ejected = False
        self.backoff_s = 0.0
        """Current back-off; 0 while the replica has not failed."""
        self.retired = False
        """No longer in the snapshot; what runs there still ends."""
        self.ejections = 0
        self.in_flight = 0
        self.in_flight_at_report = 0
        self.others = 0
        """Requests of other gateway processes at the last report, so far as can be told."""
        self.reported = False
        """Whether the engine answered the last poll."""
        self.kv_usage = 0.0
        self.running = 0
        self.waiting = 0

    def head(self, path: bytes) -> bytes:
        """Return a POST's head up to and without its `x-request-id` value."""
        head = self.heads.get(path)
        if head is None:
            head = self.heads[path] = (
                b"POST %b%b HTTP/1.1\r\nhost: %b\r\naccept: application/json, text/event-stream\r\n"
                b"content-type: application/json\r\nx-request-id: "
            ) % (self.base_path.encode(), path, self.host)
        return head

    @property
    def at(self) -> tuple[str, str, int, str, str]:
        """What must stay the same for connections and counters to stay valid."""
        return place_of(self.replica)

    def move(self, replica: Replica, model: LiveModel) -> None:
        """Follow a newer snapshot, in which the replica is at the same place."""
        self.replica, self.model = replica, model
        self.draining = replica.state is not ReplicaState.READY


def place_of(replica: Replica) -> tuple[str, str, int, str, str]:
    """Return where a replica is and for what: another place is another replica."""
    return (replica.model, replica.address, replica.port, replica.base_path, replica.variant)


class Affinity:
    """What is remembered of a model's prompts from snapshot to snapshot, and how often that decided a pick."""

    __slots__ = ("index", "picks")

    def __init__(self) -> None:
        self.index = PrefixIndex()
        self.picks = dict.fromkeys(Reason, 0)
        """Picks between several replicas, by what decided them."""


class LiveModel:
    """A model with its replicas and the counters of requests that have no replica yet."""

    __slots__ = ("affinity", "choosable", "engine", "load", "name", "replicas", "served", "shares", "weights")

    def __init__(self, served: ServedModel, load: ModelLoad, affinity: Affinity | None = None) -> None:
        self.served = served
        self.affinity = Affinity() if affinity is None else affinity
        self.choosable = False
        """Whether any variant has several replicas: without that no prompt need be looked at."""
        self.name = served.name
        self.load = load
        self.engine = _engine(served)
        """None when this version has no adapter: its replicas are used, but their load is not known."""
        self.replicas: list[LiveReplica] = []
        self.weights: dict[str, int] = {}
        """Shares of its variants; empty when all replicas are equal."""
        self.shares: Shares[LiveReplica] | None = None
        """Its replicas by variant and weight; None when all are equal."""

    @property
    def task(self) -> Task:
        """What the model does."""
        return self.served.task

    def compile_shares(self) -> None:
        """Sort the replicas by variant, if variants have shares, and see whether there is anything to choose."""
        variants = Counter(replica.replica.variant if self.weights else "" for replica in self.replicas)
        self.choosable = any(count > 1 for count in variants.values())
        if self.weights:
            self.shares = Shares(((replica.replica.variant, replica) for replica in self.replicas), self.weights)


class Target:
    """A model under the name its engine knows: its own, or an adapter's."""

    __slots__ = ("model", "served_name")

    def __init__(self, model: LiveModel, served_name: str) -> None:
        self.model = model
        self.served_name = served_name


def _engine(served: ServedModel) -> Engine | None:
    try:
        return get_engine(served.engine.lower())
    except UnknownEngineError as error:
        logger.warning("model %s: %s", served.name, error)
        return None
