"""Writes Models, and nobody else does: finalizer, status, and the scale that the brain wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.api.model import Model
from penstock.control.status import ModelStatus
from penstock_kube.client import KubeClient
from penstock_kube.clock import Clock, SystemClock
from penstock_kube.errors import NotFoundError
from penstock_kube.events import EventRecorder
from penstock_kube.resources import MODELS, Key, Object
from penstock_operator.model.events import notices
from penstock_operator.model.plan import FINALIZER, Sight, Written, plan
from penstock_operator.model.status import Body
from penstock_operator.runtime.conditions import Condition
from penstock_operator.runtime.controller import Controller, ReconcileObserver, Result
from penstock_operator.runtime.finalizers import add_finalizer, remove_finalizer
from penstock_operator.typed import Invalid, Typed
from penstock_operator.world import World

ExtraConditions = Callable[[Key], Sequence[Condition]]
"""Returns conditions of a Model that its pool does not know of, such as `WeightsReady`."""
_WORKERS = 8


@dataclass(slots=True)
class _Known:
    """What is kept of one Model between two reconciles."""

    latest: Object
    """The newest form that the API server has shown or answered with: the mirror follows a moment later."""
    written: Written | None = None
    told: ModelStatus | None = None
    """The view of which events were last noted."""


class ModelController:
    """Brings each Model's object in line with what its pool saw."""

    def __init__(
        self,
        client: KubeClient,
        world: World,
        recorder: EventRecorder,
        typed: Typed[Model],
        *,
        status_period_s: float,
        extra: ExtraConditions = lambda _: (),
        clock: Clock | None = None,
        observer: ReconcileObserver | None = None,
    ) -> None:
        """Make a controller that has not started.

        Args:
            client: fenced by the election.
            world: mirrors, and views of pools.
            recorder: writes events.
            typed: Models as their resource type.
            status_period_s: how often figures may change a status.
            extra: further conditions.
            clock: time.
            observer: told of each reconcile.
        """
        self._client = client
        self._world = world
        self._recorder = recorder
        self._typed = typed
        self._period_s = status_period_s
        self._extra = extra
        self._clock = clock or SystemClock()
        self._known: dict[Key, _Known] = {}
        self.controller = Controller("model", self.reconcile, workers=_WORKERS, observer=observer, clock=clock)
        for reflector in world.models.reflectors:
            self.controller.watch(reflector)
        world.on_view(self.controller.queue.add)

    async def reconcile(self, key: Key) -> Result:
        """Do what one Model's plan says."""
        known = self._look(key)
        if known is None:
            return Result()
        try:
            return await self._bring_in_line(key, known)
        except NotFoundError:
            return Result()  # it went while we looked; the mirror follows

    async def _bring_in_line(self, key: Key, known: _Known) -> Result:
        sight = self._sight(key, known.latest)
        self._tell(known, sight)
        steps = plan(
            sight, known.written, now=self._clock.now(), now_s=self._clock.monotonic(), period_s=self._period_s
        )
        if steps.remove_finalizer:
            await remove_finalizer(self._client, MODELS, known.latest, FINALIZER)
            return Result()
        if steps.add_finalizer:
            known.latest = await add_finalizer(self._client, MODELS, known.latest, FINALIZER)
        if steps.scale_to is not None:
            await self._scale(key, known, steps.scale_to)
        if steps.status is not None:
            await self._write(key, known, steps.status)
        return Result(requeue_after_s=steps.again_after_s)

    def _look(self, key: Key) -> _Known | None:
        """Return what is known of a Model, brought up to the mirror, or None when it is gone."""
        seen = self._world.models.get(*key)
        if seen is None:
            if self._known.pop(key, None) is not None:
                self._world.let_go(key)
            return None
        known = self._known.get(key)
        if known is None or known.latest["metadata"].get("uid") != seen["metadata"].get("uid"):
            known = self._known[key] = _Known(seen)
        elif not _is_newer(known.latest, seen):
            known.latest = seen
        return known

    def _sight(self, key: Key, obj: Object) -> Sight:
        model = self._typed.of(obj)
        return Sight(
            obj=obj,
            model=None if isinstance(model, Invalid) else model,
            view=self._world.view(key),
            gone=self._world.is_gone(key),
            extra=self._extra(key),
        )

    def _tell(self, known: _Known, sight: Sight) -> None:
        if sight.view is not None and sight.view != known.told:
            for notice in notices(known.latest, known.told, sight.view):
                self._recorder.note(known.latest, *notice)
            known.told = sight.view

    async def _scale(self, key: Key, known: _Known, replicas: int) -> None:
        """Write `spec.replicas` through the scale subresource, unless somebody has written the Model meanwhile."""
        metadata = known.latest["metadata"]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": {"replicas": replicas}}
        scale = await self._client.merge_patch(MODELS, *key, patch, subresource="scale")
        self._world.note_scaled(key, replicas)
        version = scale["metadata"]["resourceVersion"]
        generation = int(metadata.get("generation") or 0) + 1
        known.latest = {
            **known.latest,
            "metadata": {**metadata, "resourceVersion": version, "generation": generation},
            "spec": {**known.latest["spec"], "replicas": replicas},
        }

    async def _write(self, key: Key, known: _Known, body: Body) -> None:
        # With its identity, so that a Model which was deleted and made anew does not get the old one's status.
        metadata = {"namespace": key.namespace, "name": key.name, "uid": known.latest["metadata"]["uid"]}
        known.latest = await self._client.apply(MODELS, {"metadata": metadata, "status": body}, subresource="status")
        known.written = Written(body, self._clock.monotonic())


def _is_newer(one: Object, other: Object) -> bool:
    """Return whether one form of an object is newer than another: resource versions of one object grow."""
    versions = [each["metadata"]["resourceVersion"] for each in (one, other)]
    return all(version.isdecimal() for version in versions) and int(versions[0]) > int(versions[1])
