"""The ledger's HTTP answers: probes, metrics, reports and receipts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from penstock.cost.moments import parse_moment
from penstock.cost.report import CostReport
from penstock_operator.ledger.service import DATABASE_FAULTS, LedgerService
from penstock_operator.runtime.health import Health
from penstock_usage.consumer import Consumer

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BREAKDOWNS = {"tenant": "by_model", "model": "by_tenant"}
"""What `by` keeps, and what it leaves out."""


class LedgerApi:
    """Answers for one ledger process.

    Args:
        health: Checks of the process.
        registry: Its metrics.
        service: Its books.
        consumer: Where its records come from.
        clock: Unix seconds.
    """

    def __init__(
        self,
        health: Health,
        registry: CollectorRegistry,
        service: LedgerService,
        consumer: Consumer,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._health = health
        self._registry = registry
        self._service = service
        self._consumer = consumer
        self._clock = clock

    def application(self) -> web.Application:
        """Return the routes."""
        application = web.Application(middlewares=[_as_json])
        application.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/report", self._report),
                web.get("/receipt/{id}", self._receipt),
            ]
        )
        return application

    async def _livez(self, _: web.Request) -> web.Response:
        wrong = self._health.liveness()
        return web.Response(text="\n".join(wrong) or "ok", status=503 if wrong else 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        wrong = self._health.readiness()
        if wrong:
            return web.Response(text="\n".join(wrong), status=503)
        # A Redis that is away is no reason to answer nobody: what the books hold can be reported all the same.
        notes = (self._consumer.condition(), self._service.state.problem)
        return web.Response(text="\n".join(["ok", *(note for note in notes if note)]))

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"content-type": _METRICS_TYPE})

    async def _report(self, request: web.Request) -> web.Response:
        since_s, until_s = self._moment(request, "since"), self._moment(request, "until")
        by = request.query.get("by")
        if by is not None and by not in _BREAKDOWNS:
            raise web.HTTPBadRequest(text=f"by {by!r}: give tenant or model, or leave it out for both")
        if since_s is not None and until_s is not None and since_s >= until_s:
            raise web.HTTPBadRequest(text="since lies after until: give an earlier since or a later until")
        report = await self._service.report(since_s, until_s)
        return _json(report if by is None else _narrowed(report, by))

    async def _receipt(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        receipt = await self._service.receipt(name)
        if receipt is None:
            raise web.HTTPNotFound(
                text=f"{name!r}: no such request in the ledger; give the x-request-id of an answer that has ended, "
                f"and allow a few seconds for its record to come"
            )
        return _json(receipt)

    def _moment(self, request: web.Request, name: str) -> float | None:
        text = request.query.get(name)
        if not text:
            return None
        try:
            return parse_moment(text, self._clock())
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"{name} {error}") from error


def _narrowed(report: CostReport, by: str) -> CostReport:
    return msgspec.structs.replace(report, **{_BREAKDOWNS[by]: {}})


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


@web.middleware
async def _as_json(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer errors as `{"error": {"message": ...}}`."""
    try:
        answer: web.StreamResponse = await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _json({"error": {"message": error.text or error.reason}}, error.status)
    except DATABASE_FAULTS as error:
        return _json({"error": {"message": f"the books cannot be read: {error}"}}, 503)
    return answer
