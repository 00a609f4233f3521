"""KubeRay as operators see it: watches RayClusters on a real API server, and writes what KubeRay would write.

No controller-manager runs beside the API server, so this removes as well what the garbage collector would.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from penstock_kube.client import KubeClient
from penstock_kube.config import Access
from penstock_kube.errors import AlreadyExistsError, KubeError, NotFoundError
from penstock_kube.reflector import Reflector
from penstock_kube.resources import RAY_CLUSTERS, SECRETS, SERVICES, Key, Kind, Object
from penstock_kube.store import Change
from penstock_loadtest.controlplane.serve_api import ServeApi, loop_in_thread

CLUSTER_LABEL = "ray.io/cluster"
TOKEN_KEY = "auth_token"  # noqa: S105 - the key of a Secret, no secret
_DEFINITIONS = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False)
_RETRY_S = 0.5

_log = logging.getLogger(__name__)

OPEN_DEFINITION: dict[str, Any] = {
    "apiVersion": _DEFINITIONS.api_version,
    "kind": _DEFINITIONS.kind,
    "metadata": {"name": f"{RAY_CLUSTERS.plural}.{RAY_CLUSTERS.group}"},
    "spec": {
        "group": RAY_CLUSTERS.group,
        "names": {"kind": RAY_CLUSTERS.kind, "plural": RAY_CLUSTERS.plural, "singular": "raycluster"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": RAY_CLUSTERS.version,
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}
"""A RayCluster that takes any field; KubeRay's own definition is 900 kB of pod templates."""


@dataclass
class KubeRay:
    """The stand-in. Enter it to run."""

    access: Access
    serve: ServeApi | None = None
    """Told of tokens, and to forget the applications of clusters that are gone."""
    ready_after_s: float = 0.0
    """From a new RayCluster to a head that is ready."""
    heads_down: set[Key] = field(default_factory=set)
    """Clusters whose head is not ready; call `touch` after a change."""
    suspended: bool = False
    """Whether to do nothing, as when KubeRay is not installed or down."""
    _seen: dict[Key, str] = field(default_factory=dict)
    _dirty: asyncio.Queue[Key] = field(default_factory=asyncio.Queue)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._client = KubeClient(self.access, field_manager="kuberay")
        self._clusters = Reflector(self._client, RAY_CLUSTERS)
        self._clusters.add_handler(self._changed)
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._clusters.run()), asyncio.create_task(self._work())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def touch(self, key: Key) -> None:
        """Look at a cluster again; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._dirty.put_nowait, key)

    def lose_head(self, key: Key) -> None:
        """Have a cluster's head die, with all that Serve knew; `heal_head` brings an empty one."""
        self.heads_down.add(key)
        if self.serve is not None:
            serve = self.serve
            serve.run(lambda: serve.serve(key.namespace).lose_everything())
            serve.cut_off(key.namespace)
        self.touch(key)

    def heal_head(self, key: Key) -> None:
        """Bring a new head up."""
        self.heads_down.discard(key)
        if self.serve is not None:
            self.serve.mend(key.namespace)
        self.touch(key)

    def _changed(self, change: Change) -> None:
        self._dirty.put_nowait(change.key)

    async def _work(self) -> None:
        while True:
            key = await self._dirty.get()
            if self.suspended:
                continue
            try:
                await self._reconcile(key)
            except KubeError as error:
                _log.info("%s: %s; trying again", key, error)
                self._loop.call_later(_RETRY_S, self._dirty.put_nowait, key)

    async def _reconcile(self, key: Key) -> None:
        cluster = self._clusters.store.get(*key)
        uid = None if cluster is None else cluster["metadata"]["uid"]
        if self._seen.get(key) not in (None, uid):
            await self._clean_up(key)
        if cluster is None or uid is None:
            return
        if key not in self._seen:
            self._seen[key] = uid
            if self.ready_after_s:
                self._loop.call_later(self.ready_after_s, self._dirty.put_nowait, key)
                await self._write_status(cluster, up=False)
                return
        await self._ensure_token(cluster)
        await self._ensure_service(cluster)
        await self._write_status(cluster, up=key not in self.heads_down)

    async def _clean_up(self, key: Key) -> None:
        del self._seen[key]
        await self._client.delete(SERVICES, key.namespace, _service_name(key.name))
        await self._client.delete(SECRETS, key.namespace, key.name)
        others = [other for other in self._seen if other.namespace == key.namespace]
        if self.serve is not None and not others:
            self.serve.serve(key.namespace).lose_everything()

    async def _ensure_token(self, cluster: Object) -> None:
        options = cluster["spec"].get("authOptions") or {}
        if options.get("mode") != "token" or options.get("secretName"):
            return
        metadata = cluster["metadata"]
        try:
            secret = await self._client.get(SECRETS, metadata["namespace"], metadata["name"])
        except NotFoundError:
            body = {"metadata": _owned(cluster, metadata["name"]), "stringData": {TOKEN_KEY: secrets.token_hex(32)}}
            secret = await self._client.create(SECRETS, body)
        if self.serve is not None:
            self.serve.require_token(metadata["namespace"], base64.b64decode(secret["data"][TOKEN_KEY]).decode())

    async def _ensure_service(self, cluster: Object) -> None:
        ports = [
            {"name": name, "port": port, "protocol": "TCP"}
            for name, port in (("gcs-server", 6379), ("dashboard", 8265), ("client", 10001), ("serve", 8000))
        ]
        name = _service_name(cluster["metadata"]["name"])
        body = {"metadata": _owned(cluster, name), "spec": {"clusterIP": "None", "ports": ports}}
        with contextlib.suppress(AlreadyExistsError):
            await self._client.create(SERVICES, body)

    async def _write_status(self, cluster: Object, *, up: bool) -> None:
        generation = cluster["metadata"]["generation"]
        old = cluster.get("status") or {}
        conditions = [
            _condition(old, generation, "HeadPodReady", up, "HeadPodRunningAndReady" if up else "ContainersNotReady")
        ]
        if up or old.get("state") == "ready":  # provisioned once is provisioned for good
            reason = "AllPodRunningAndReadyFirstTime"
            conditions.append(_condition(old, generation, "RayClusterProvisioned", True, reason))
        status: dict[str, Any] = {"observedGeneration": generation, "conditions": conditions}
        if up or "state" in old:
            status["state"] = "ready"
        if up:
            name = cluster["metadata"]["name"]
            status["head"] = {"serviceName": _service_name(name), "podName": f"{name}-head", "podIP": "192.0.2.1"}
        if status == {field: old.get(field) for field in status}:
            return
        metadata = {"namespace": cluster["metadata"]["namespace"], "name": cluster["metadata"]["name"]}
        await self._client.apply(RAY_CLUSTERS, {"metadata": metadata, "status": status}, subresource="status")


def _service_name(cluster: str) -> str:
    return f"{cluster}-head-svc"


def _owned(cluster: Object, name: str) -> dict[str, Any]:
    metadata = cluster["metadata"]
    owner = {
        "apiVersion": RAY_CLUSTERS.api_version,
        "kind": RAY_CLUSTERS.kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "namespace": metadata["namespace"],
        "name": name,
        "labels": {CLUSTER_LABEL: metadata["name"]},
        "ownerReferences": [owner],
    }


def _condition(old: Object, generation: int, kind: str, holds: bool, reason: str) -> dict[str, Any]:
    status = "True" if holds else "False"
    before = next((one for one in old.get("conditions", ()) if one["type"] == kind), None)
    unchanged = before is not None and before["status"] == status
    since = (
        before["lastTransitionTime"] if before is not None and unchanged else f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    )
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": "",
        "lastTransitionTime": since,
        "observedGeneration": generation,
    }


async def install_definition(client: KubeClient) -> None:
    """Install `OPEN_DEFINITION`; one that is there already stays."""
    with contextlib.suppress(AlreadyExistsError):
        await client.create(_DEFINITIONS, OPEN_DEFINITION)


@contextlib.contextmanager
def kuberay(access: Access, serve: ServeApi | None = None, *, ready_after_s: float = 0.0) -> Iterator[KubeRay]:
    """Run the stand-in in a thread; end it on the way out."""
    with loop_in_thread() as loop:
        standing_in = KubeRay(access, serve, ready_after_s)
        asyncio.run_coroutine_threadsafe(standing_in.__aenter__(), loop).result(30)
        try:
            yield standing_in
        finally:
            asyncio.run_coroutine_threadsafe(standing_in.__aexit__(None, None, None), loop).result(30)
