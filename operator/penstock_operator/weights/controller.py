"""Keeps one Job for each source that a namespace's Models download, and tells the Models how far it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import httpx2
import msgspec

from penstock.api.model import Model
from penstock_kube.client import KubeClient
from penstock_kube.clock import Clock
from penstock_kube.errors import AlreadyExistsError, ForbiddenError, InvalidError
from penstock_kube.resources import JOBS, Key, Object, key_of
from penstock_operator.runtime.conditions import Condition
from penstock_operator.runtime.controller import Result
from penstock_operator.runtime.finalizers import is_deleting
from penstock_operator.settings import RayOptions
from penstock_operator.typed import Invalid, Typed
from penstock_operator.weights.plan import (
    PORT,
    RETRY_AFTER_S,
    WEIGHTS_LABEL,
    Progress,
    is_running,
    job_of,
    name_of,
    refusal,
    superfluous,
    verdict,
)
from penstock_operator.world import Mirror

LOOK_S: Final = 5.0
"""How often a download that runs is asked how far it is."""
_TIMEOUT_S: Final = 2.0
_log = logging.getLogger(__name__)


class WeightsController:
    """Reconciles namespaces: a key's name is the namespace."""

    def __init__(
        self,
        client: KubeClient,
        models: Typed[Model],
        jobs: Mirror,
        pods: Mirror,
        *,
        options: RayOptions,
        clock: Clock,
        port: int = PORT,
    ) -> None:
        """Make the reconcile.

        Args:
            client: writes Jobs.
            models: the Models.
            jobs: our Jobs.
            pods: our pods, those of the Jobs among them.
            options: the cache and the image.
            clock: tells time.
            port: where pods tell their progress.
        """
        self._client = client
        self._models = models
        self._jobs = jobs
        self._pods = pods
        self._options = options
        self._clock = clock
        self._port = port
        self._told: dict[Key, Condition] = {}
        self._listeners: list[Callable[[Key], None]] = []
        # trust_env off: pods are reached directly, whatever proxy the environment names.
        self._http = httpx2.AsyncClient(timeout=_TIMEOUT_S, trust_env=False)

    def on_change(self, listener: Callable[[Key], None]) -> None:
        """Have `listener` called with the key of each Model of which something new is to be said."""
        self._listeners.append(listener)

    def conditions(self, model: Key) -> Sequence[Condition]:
        """Return what there is to say of a Model's weights; nothing where they are not downloaded ahead."""
        told = self._told.get(model)
        return () if told is None else (told,)

    async def reconcile(self, key: Key) -> Result:
        """Bring one namespace's downloads in order."""
        namespace = key.name
        wanted = self._wanted(namespace)
        bodies: dict[str, dict[str, Any]] = {name_of(body): body for body in wanted.values()}
        jobs = {name_of(job): job for job in self._jobs.all(namespace)}
        for job in superfluous(jobs.values(), bodies, self._clock.now()):
            await self._client.delete(JOBS, *key_of(job), uid=job["metadata"].get("uid"))
            jobs.pop(name_of(job))
        refused: dict[str, Condition] = {}
        for name in bodies.keys() - jobs.keys():
            try:
                jobs[name] = await self._client.create(JOBS, bodies[name])
            except AlreadyExistsError:
                continue  # the mirror has not seen it yet, or the old one is still going
            except (ForbiddenError, InvalidError) as error:
                refused[name] = refusal(error.message)
        kept = [jobs[name] for name in sorted(bodies) if name in jobs]
        verdicts = dict(zip(map(name_of, kept), await asyncio.gather(*map(self._verdict, kept)), strict=True))
        verdicts |= refused
        unseen = verdict(None, (), None)
        self._tell(namespace, {model: verdicts.get(name_of(body), unseen) for model, body in wanted.items()})
        if any(is_running(job) for job in kept) or bodies.keys() - jobs.keys() - refused.keys():
            return Result(requeue_after_s=LOOK_S)
        failed = any(item.reason == "DownloadFailed" for item in verdicts.values())
        return Result(requeue_after_s=RETRY_AFTER_S if failed else None)

    async def close(self) -> None:
        """Close idle connections."""
        await self._http.aclose()

    def _wanted(self, namespace: str) -> dict[Key, dict[str, Any]]:
        """Return the Job of each Model that downloads."""
        wanted: dict[Key, dict[str, Any]] = {}
        for obj in self._models.mirror.all(namespace):
            model = self._models.of(obj)
            if isinstance(model, Invalid) or is_deleting(obj):
                continue
            body = job_of(model, self._options)
            if body is not None:
                wanted[key_of(obj)] = body
        return wanted

    async def _verdict(self, job: Object) -> Condition:
        pods = self._pods_of(job)
        return verdict(job, pods, await self._progress(pods) if is_running(job) else None)

    def _pods_of(self, job: Object) -> list[Object]:
        mark = job["metadata"]["labels"][WEIGHTS_LABEL]
        pods = self._pods.all(job["metadata"]["namespace"])
        return [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(WEIGHTS_LABEL) == mark]

    async def _progress(self, pods: Iterable[Object]) -> Progress | None:
        """Return what the pod that runs says, or None when none does or it does not answer."""
        for pod in pods:
            status = pod.get("status") or {}
            address = status.get("podIP")
            if status.get("phase") != "Running" or not address:
                continue
            host = f"[{address}]" if ":" in address else address
            try:
                answer = await self._http.get(f"http://{host}:{self._port}/progress")
                answer.raise_for_status()
                return msgspec.json.decode(answer.content, type=Progress)
            except (httpx2.HTTPError, msgspec.DecodeError) as error:
                _log.debug("pod %s does not tell its progress: %s", pod["metadata"]["name"], error)
        return None

    def _tell(self, namespace: str, after: Mapping[Key, Condition]) -> None:
        before = {key: told for key, told in self._told.items() if key.namespace == namespace}
        for key in before.keys() - after.keys():
            del self._told[key]
        self._told |= after
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                for listener in self._listeners:
                    listener(key)
