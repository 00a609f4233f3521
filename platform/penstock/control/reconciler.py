"""Carries plans out: PUTs that survive one bad application, and scale-downs that no stream notices."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from penstock.serve.applications import Application, ServeOptions
from penstock.serve.client import ServeClient
from penstock.serve.errors import ServeAnswerError, ServeRefusedError
from penstock.serve.plan import DesiredApplication, PutConfig, ScaleTo, plan, whole_config, without_refused
from penstock.serve.status import ObservedApplication, ServeStatus

logger = logging.getLogger(__name__)

RouteAway = Callable[[frozenset[str]], Awaitable[None]]
"""Publishes that these replicas get nothing new, and returns once every gateway knows."""


class Reconciler:
    """Brings Serve to what is desired, one observation at a time; remembers what Serve refused and why."""

    def __init__(self, client: ServeClient, options: ServeOptions, route_away: RouteAway) -> None:
        self._client = client
        self._options = options
        self._route_away = route_away
        self._last_good: dict[str, Application] = {}
        self._refused: dict[str, tuple[Application, str]] = {}
        self.leaving: frozenset[str] = frozenset()
        """Replicas that a scale call is about to stop, or has and Serve does not show it yet."""
        self.steps = 0
        """Calls that were found necessary so far; whoever asks may set it back."""

    def refusal(self, application: str) -> str | None:
        """Return why Serve refused an application as it is now wanted, or None when it did not."""
        refused = self._refused.get(application)
        return None if refused is None else refused[1]

    async def reconcile(self, desired: Sequence[DesiredApplication], observed: ServeStatus) -> tuple[str, ...]:
        """Take one step; return the applications whose configuration was sent.

        Raises:
            ServeError: Serve did not take a call; the next observation shows what became of it.
        """
        self._forget_mended(desired)
        self.leaving = still_leaving(self.leaving, observed)
        wanted = without_refused(desired, self._refused, self._last_good)
        sent: tuple[str, ...] = ()
        failure: ServeAnswerError | None = None
        for action in plan(wanted, observed, self._options):
            self.steps += 1
            if isinstance(action, PutConfig):
                sent = await self._put(action, wanted, observed)
                continue
            try:
                await self._scale(action, observed)
            except ServeAnswerError as error:  # Serve is there, and may well take the call of the next application
                failure = failure or error
        if failure is not None:
            raise failure
        return sent

    async def _put(
        self, action: PutConfig, wanted: Sequence[DesiredApplication], observed: ServeStatus
    ) -> tuple[str, ...]:
        if action.victims:
            self.leaving |= frozenset(action.victims)
            await self._route_away(frozenset(action.victims))
        try:
            await self._client.put(action.body)
        except ServeRefusedError as error:
            await self._find_refused(action.changed, wanted, observed, error)
            return ()
        self._note_good(wanted)
        return action.changed

    async def _find_refused(
        self,
        suspects: Sequence[str],
        wanted: Sequence[DesiredApplication],
        observed: ServeStatus,
        error: ServeRefusedError,
    ) -> None:
        """Leave out each suspect by itself: those that Serve takes without the others are not to blame."""
        applications = {want.application.name: want.application for want in wanted}
        if len(suspects) <= 1:
            for name in suspects:
                self._refuse(applications[name], error)
            if not suspects:
                raise error
            return
        for name in suspects:
            others = set(suspects) - {name}
            trial = without_refused(wanted, others, self._last_good)
            try:
                await self._client.put(whole_config(trial, observed, self._options))
            except ServeRefusedError as refusal:
                self._refuse(applications[name], refusal)
            else:
                self._note_good(trial)

    def _refuse(self, application: Application, error: ServeRefusedError) -> None:
        logger.warning("Ray Serve refused %s: %s", application.name, error.text)
        self._refused[application.name] = (application, error.text)

    def _note_good(self, wanted: Iterable[DesiredApplication]) -> None:
        self._last_good.update({want.application.name: want.application for want in wanted})

    def _forget_mended(self, desired: Iterable[DesiredApplication]) -> None:
        now = {want.application.name: want.application for want in desired}
        self._refused = {name: entry for name, entry in self._refused.items() if now.get(name) == entry[0]}
        self._last_good = {name: app for name, app in self._last_good.items() if name in now}

    async def _scale(self, action: ScaleTo, observed: ServeStatus) -> None:
        running = {r.id for r in observed.applications[action.application].replicas if r.state == "RUNNING"}
        victims = running.intersection(action.victims)
        if victims:
            self.leaving |= victims
            await self._route_away(frozenset(victims))
        await self._client.scale(action.application, action.deployment, action.replicas)


def still_leaving(leaving: frozenset[str], observed: ServeStatus) -> frozenset[str]:
    """Return the replicas that Serve has yet to stop; one that it spared, having taken another, is to serve on."""
    return frozenset(
        replica.id
        for app in observed.applications.values()
        for replica in app.replicas
        if replica.id in leaving and replica.is_live and (app.status == "DELETING" or _has_surplus(app))
    )


def _has_surplus(app: ObservedApplication) -> bool:
    return app.target is not None and sum(replica.is_live for replica in app.replicas) > app.target
