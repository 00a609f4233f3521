"""What a request is for: an inference that goes to a replica, or one of the few answers the relay gives by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import msgspec

from penstock.routing.snapshot import Task
from penstock_gateway.discovery.fleet import LiveRoute
from penstock_gateway.errors import (
    BadRequestError,
    GatewayError,
    MethodNotAllowedError,
    ModelNotFoundError,
    NotFoundError,
    RateLimitedError,
)
from penstock_gateway.relay import wire
from penstock_gateway.relay.choice import Choice
from penstock_gateway.relay.context import Relay
from penstock_gateway.relay.exchange import Exchange
from penstock_gateway.relay.request import Request, peek
from penstock_gateway.tenants.directory import Tenant

if TYPE_CHECKING:
    from penstock_gateway.relay.server import ClientConnection

_INFERENCE: Final = {
    b"/v1/chat/completions": Task.GENERATE,
    b"/v1/completions": Task.GENERATE,
    b"/v1/embeddings": Task.EMBED,
}
_REMEDIES: Final = {
    Task.GENERATE: "it generates text: use /v1/chat/completions or /v1/completions",
    Task.EMBED: "it makes embeddings: use /v1/embeddings",
}
_MODELS: Final = b"/v1/models"
_encode = msgspec.json.Encoder().encode


class ModelCard(msgspec.Struct, frozen=True):
    """A model as `/v1/models` shows it."""

    id: str
    object: str
    created: int
    owned_by: str


class ModelList(msgspec.Struct, frozen=True):
    """The answer of `/v1/models`."""

    object: str
    data: list[ModelCard]


def dispatch(relay: Relay, client: ClientConnection, request: Request) -> None:
    """Answer a request, or begin the exchange that will."""
    try:
        task = _INFERENCE.get(request.path)
        if task is not None and request.why and relay.is_admin(request.authorization):
            client.send_answer(request, 200, wire.JSON, _why(relay, request))
            client.exchange_done(request)
        elif task is not None:
            _infer(relay, client, request, task)
        else:
            status, body = _local(relay, request)
            client.send_answer(request, status, wire.JSON, body)
            client.exchange_done(request)
    except GatewayError as error:
        client.send_error(request, error)
        client.exchange_done(request)


def _infer(relay: Relay, client: ClientConnection, request: Request, task: Task) -> None:
    if request.method != b"POST":
        raise MethodNotAllowedError(request.method.decode(), request.path.decode(), "POST")
    tenant = relay.tenants.authenticate(request.authorization)
    peeked = peek(request.body)
    route = _route(relay, tenant, peeked.model)
    model = route.first.model
    if model.task is not task:
        raise BadRequestError(
            f"The model {peeked.model!r} does not take {request.path.decode()}; {_REMEDIES[model.task]}.", param="model"
        )
    model.load.arrived += 1
    limits = tenant.limits
    if limits.any:
        try:
            limits.admit(request.received_s)
        except RateLimitedError:
            model.load.shed += 1
            raise
        finally:
            request.answer_fields += limits.fields()
    client.begin(Exchange(relay, client, request, tenant=tenant, route=route, peeked=peeked))


def _why(relay: Relay, request: Request) -> bytes:
    """Return where a request would go now, and why, as JSON. Nothing is sent, counted or taken from a limit."""
    name = request.tenant_name.decode("utf-8", "replace")
    if name and not relay.tenants.knows(name):
        raise BadRequestError(
            f"There is no tenant {name!r}. GET /snapshot on the admin port lists them.", param="x-penstock-tenant"
        )
    peeked = peek(request.body)
    route = relay.fleet.routes.get(peeked.model)
    if route is None:
        raise ModelNotFoundError(peeked.model)
    choice = Choice(relay, peeked, name, request.id, asked=True)
    return _encode(choice.explain(choice.choose(route.targets(choice.turn), ())))


def _route(relay: Relay, tenant: Tenant, name: str) -> LiveRoute:
    route = relay.fleet.routes.get(name)
    if route is None or not tenant.may_use(name):
        raise ModelNotFoundError(name)
    return route


def _local(relay: Relay, request: Request) -> tuple[int, bytes]:
    path = request.path
    is_models = path == _MODELS or path.startswith(b"/v1/models/")
    if not is_models and path != b"/healthz":
        raise NotFoundError(
            f"There is no {path.decode('utf-8', 'replace')!r} here. Inference is under /v1, the rest on the admin port."
        )
    if request.method not in {b"GET", b"HEAD"}:
        raise MethodNotAllowedError(request.method.decode(), path.decode("utf-8", "replace"), "GET, HEAD")
    if not is_models:
        return health(relay)
    tenant = relay.tenants.authenticate(request.authorization)
    if path == _MODELS:
        routes = [route for name, route in sorted(relay.fleet.routes.items()) if tenant.may_use(name)]
        return 200, _encode(ModelList("list", [_card(route) for route in routes]))
    name = unquote_to_bytes(path.removeprefix(b"/v1/models/")).decode("utf-8", "replace")
    return 200, _encode(_card(_route(relay, tenant, name)))


def health(relay: Relay) -> tuple[int, bytes]:
    """Return whether this process wants new requests, as status and JSON body."""
    if relay.draining:
        return 503, b'{"status":"draining"}'
    if relay.fleet.snapshot.version < 0:
        return 503, b'{"status":"no routing snapshot yet"}'
    if not relay.confirmed:
        return 200, b'{"status":"ready","routing":"remembered: the API server has not answered since start"}'
    return 200, b'{"status":"ready"}'


def _card(route: LiveRoute) -> ModelCard:
    return ModelCard(route.name, "model", route.created_s, "penstock")
