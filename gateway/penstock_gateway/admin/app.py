"""The admin API. Health probes are open; all else asks for the admin token where one is set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException as AnyHTTPException

from penstock import __version__
from penstock_gateway.admin.views import LiveState, live_state
from penstock_gateway.errors import INVALID_REQUEST, SERVER_ERROR
from penstock_gateway.metrics import GatewayCollector
from penstock_gateway.relay.dispatch import health
from penstock_usage.metrics import ShipperCollector

if TYPE_CHECKING:
    from penstock_gateway.gateway import Gateway

_CODES: Final = {401: "invalid_admin_token", 404: "unknown_url", 405: "method_not_supported"}
_bearer = HTTPBearer(auto_error=False, description="The admin token, where the settings name one.")


def build_app(gateway: Gateway) -> FastAPI:
    """Return the admin application of a gateway process."""
    app = FastAPI(
        title="Penstock gateway: admin",
        version=__version__,
        summary="Health, load, metrics and live state of one gateway process.",
    )
    registry = CollectorRegistry()
    registry.register(GatewayCollector(gateway))
    if gateway.shipper is not None:
        registry.register(ShipperCollector(gateway.shipper))

    def authorized(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        if not gateway.admin_token.admits("" if credentials is None else credentials.credentials):
            raise HTTPException(401, "The admin token is missing or wrong.", {"www-authenticate": "Bearer"})

    guarded = [Depends(authorized)]

    @app.get("/healthz", tags=["probes"], responses={503: {"description": "Only a new process helps."}})
    async def healthz() -> JSONResponse:
        """Say that the process is alive, draining or not."""
        if gateway.failed is not None:
            return JSONResponse({"status": f"the task {gateway.failed!r} has ended"}, 503)
        return JSONResponse({"status": "alive"})

    @app.get("/readyz", tags=["probes"], responses={503: {"description": "Draining, or no routing snapshot yet."}})
    async def readyz() -> Response:
        """Say whether the process wants new requests."""
        status, body = health(gateway.relay)
        return Response(body, status, media_type="application/json")

    @app.get("/load", tags=["operators"], dependencies=guarded)
    async def load() -> Response:
        """Return cumulative counters by model and variant, and gauges of what runs and waits."""
        return Response(msgspec.json.encode(gateway.load()), media_type="application/json")

    @app.get("/snapshot", tags=["operators"], dependencies=guarded)
    async def snapshot() -> LiveState:
        """Return the live state: models, replicas as the pick sees them, routes, and tenants without their hashes."""
        return live_state(gateway)

    @app.get("/picks", tags=["operators"], dependencies=guarded)
    async def picks(model: Annotated[str | None, Query(description="Only picks for this Model.")] = None) -> Response:
        """Return a sample of the latest picks between several replicas, each with its candidates; the newest first."""
        samples = [sample for sample in reversed(gateway.relay.samples) if model in {None, sample.model}]
        return Response(msgspec.json.encode(samples), media_type="application/json")

    @app.get("/metrics", tags=["operators"], dependencies=guarded)
    async def metrics(request: Request) -> Response:
        """Return Prometheus metrics, in the format that is asked for."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    @app.exception_handler(AnyHTTPException)  # FastAPI's own, and what the router raises for unknown paths and methods
    async def http_error(request: Request, error: AnyHTTPException) -> JSONResponse:
        """Answer errors in the same shape as the data port."""
        return JSONResponse(_shape(request, error), error.status_code, error.headers)

    return app


def _shape(request: Request, error: AnyHTTPException) -> dict[str, Any]:
    message, code = str(error.detail), _CODES.get(error.status_code)
    if error.status_code == 404:
        message = f"There is no {request.url.path!r} here. GET /docs lists what is."
    elif error.status_code == 405:
        message = f"{request.url.path} does not take {request.method}. GET /docs lists what it takes."
    kind = SERVER_ERROR if error.status_code >= 500 else INVALID_REQUEST
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
