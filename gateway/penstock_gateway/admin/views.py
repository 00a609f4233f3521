"""What the admin API shows of the live state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from penstock.routing.pick import Pick, explain
from penstock_gateway.discovery.live import LiveModel

if TYPE_CHECKING:
    from penstock_gateway.gateway import Gateway


class ReplicaView(BaseModel):
    """A replica as the pick sees it."""

    id: str
    variant: str
    address: str
    state: str
    ejected: bool
    ejections: int
    backoff_s: float
    """0 while the replica has not failed since its last success."""
    reported: bool
    """Whether the engine answered the last poll of its metrics; its last reading stays in use if not."""
    kv_usage: float
    running: int
    waiting: int
    in_flight: int
    score: float
    """Pressure by which the pick compares replicas; the lowest gets the next request."""


class ModelView(BaseModel):
    """A model and its replicas."""

    name: str
    task: str
    shares: dict[str, int]
    """Weights of variants, where they have any; a variant is chosen by weight before a replica is."""
    next_pick: str | None
    """The replica that a request would go to now, but for ties; None when none takes requests, or variants share."""
    replicas: list[ReplicaView]


class RouteView(BaseModel):
    """A public name."""

    name: str
    backends: dict[str, int]
    """Weights by the name the engine serves."""
    fallbacks: list[str]


class TenantView(BaseModel):
    """A tenant, without its hashes."""

    name: str
    keys: int
    allowed: list[str] | None


class LiveState(BaseModel):
    """The routing snapshot in use and what this process has made of it."""

    version: int
    """-1 before the first snapshot."""
    error: str | None
    """What is wrong with the snapshot file, or with discovery in the cluster, now; if anything."""
    draining: bool
    connections: int
    models: list[ModelView]
    routes: list[RouteView]
    tenants: list[TenantView]
    anonymous_tenant: str | None


def live_state(gateway: Gateway) -> LiveState:
    """Return the state of a gateway process."""
    fleet = gateway.fleet
    snapshot = fleet.snapshot
    return LiveState(
        version=snapshot.version,
        error=gateway.discovery.error,
        draining=gateway.relay.draining,
        connections=len(gateway.connections),
        models=[_model(model, explain(model.replicas, turn=0)) for model in fleet.models.values()],
        routes=[
            RouteView(
                name=route.name,
                backends={
                    target.served_name: weight for target, weight in zip(route.backends, route.weights, strict=True)
                },
                fallbacks=[target.served_name for target in route.fallbacks],
            )
            for route in fleet.routes.values()
        ],
        tenants=[
            TenantView(
                name=tenant.name,
                keys=len(tenant.key_hashes),
                allowed=None if tenant.allowed is None else list(tenant.allowed),
            )
            for tenant in snapshot.tenants
        ],
        anonymous_tenant=snapshot.anonymous_tenant,
    )


def _model(model: LiveModel, pick: Pick) -> ModelView:
    scores = {scored.replica: scored.score for scored in pick.candidates}
    return ModelView(
        name=model.name,
        task=model.task.value,
        shares=model.weights,
        next_pick=None if model.weights else pick.chosen,
        replicas=[
            ReplicaView(
                id=replica.id,
                variant=replica.replica.variant,
                address=replica.host.decode(),
                state=replica.replica.state.value,
                ejected=replica.ejected,
                ejections=replica.ejections,
                backoff_s=replica.backoff_s,
                reported=replica.reported,
                kv_usage=replica.kv_usage,
                running=replica.running,
                waiting=replica.waiting,
                in_flight=replica.in_flight,
                score=scores[replica.id],
            )
            for replica in model.replicas
        ],
    )
