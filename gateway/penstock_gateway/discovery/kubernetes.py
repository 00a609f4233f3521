"""Discovery in a cluster: every namespace's routing ConfigMap and our EndpointSlices, mirrored and made one snapshot.

Both kinds are listed once and then watched. What is known serves on while the API server is away, with a cache file
even across a restart of this process. An object that cannot be read leaves the last good form of it in use.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from typing import Any, Final

import msgspec

from penstock.routing.published import CONFIG_MAP, MANAGED_BY
from penstock.routing.snapshot import RoutingSnapshot
from penstock_gateway.discovery.cache import ContentCache
from penstock_gateway.discovery.compile import Content, compile_content
from penstock_gateway.discovery.known import Known
from penstock_gateway.discovery.objects import PublishedRouting, PublishedSlice, read_routing, read_slice
from penstock_gateway.discovery.source import Apply, ClusterReport
from penstock_gateway.settings import KubernetesOptions, StartError
from penstock_kube.client import KubeClient
from penstock_kube.clock import Backoff, Clock, Rng, SystemClock
from penstock_kube.config import Access
from penstock_kube.errors import ConfigError
from penstock_kube.reflector import Reflector
from penstock_kube.resources import CONFIG_MAPS, ENDPOINT_SLICES, Kind
from penstock_kube.store import Change

logger = logging.getLogger(__name__)

SWAP_S: Final = 0.05
"""After a change so long is waited for more of them: bounds swaps to 20 a second, and how late a drain is known."""
SWAP_SHARE: Final = 0.2
"""At most so much of the process's time goes into swaps, however large the snapshot is."""
CACHE_S: Final = 1.0
"""The cache is written at most so often."""


class _Everywhere:
    """Holds every namespace."""

    def __contains__(self, namespace: object) -> bool:
        return True


class KubernetesDiscovery:
    """Mirrors what the operator publishes and applies it, coalesced, a whole snapshot at a time (`source.Source`).

    Args:
        options: Which cluster and namespaces.
        apply: Given each new snapshot.
        client: Makes the calls; one from `options` when None.
        clock: Time and waiting.
        backoff: Waits between failures of a watch.
        rng: Spreads waits.

    Raises:
        StartError: there is no cluster to talk to.
    """

    def __init__(
        self,
        options: KubernetesOptions,
        apply: Apply,
        *,
        client: KubeClient | None = None,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        rng: Rng = random.random,
    ) -> None:
        self._options = options
        self._apply = apply
        self._clock = clock or SystemClock()
        self._client = client or KubeClient(_access(options), field_manager="penstock-gateway", clock=self._clock)
        self._cache = None if options.cache_file is None else ContentCache(options.cache_file)
        self._routings = Known[PublishedRouting](CONFIG_MAPS.plural, read_routing, lambda key: key.namespace)
        self._slices = Known[PublishedSlice](ENDPOINT_SLICES.plural, read_slice, str)
        self._backoff = backoff or Backoff(cap_s=options.retry_cap_s)
        self._rng = rng
        self._mirrors = [
            mirror
            for namespace in options.namespaces or ("",)
            for mirror in (
                self._mirror(CONFIG_MAPS, namespace, self._routings, field_selector=f"metadata.name={CONFIG_MAP}"),
                self._mirror(
                    ENDPOINT_SLICES,
                    namespace,
                    self._slices,
                    label_selector=f"endpointslice.kubernetes.io/managed-by={MANAGED_BY}",
                ),
            )
        ]
        self._snapshot: RoutingSnapshot | None = None
        self._confirmed = False
        """Every list has been read since start."""
        self._patient = True
        """Whatever is not listed or remembered yet is still waited for."""
        self._changed = asyncio.Event()
        self._unsaved = asyncio.Event()
        self._taken: tuple[str, ...] = ()
        self._restarts: Counter[tuple[str, str]] = Counter()
        self._started_s = self._clock.monotonic()

    # source.Source

    @property
    def error(self) -> str | None:
        """Return what is wrong now, in words; None when all is well."""
        problems = [*self._routings.problems.values(), *self._slices.problems.values(), *self._taken]
        if unlisted := sorted({mirror.kind.plural for mirror, _, _ in self._mirrors if not mirror.has_synced}):
            problems.insert(0, f"not listed yet since start: {', '.join(unlisted)}")
        return "; ".join(problems) or None

    @property
    def rejected(self) -> int:
        """Objects that could not be read, since start."""
        return self._routings.skipped + self._slices.skipped

    def prepare(self) -> None:
        """Apply what the cache file holds."""
        content = None if self._cache is None else self._cache.read()
        if content is None:
            return
        self._routings.remember(content.routings, lambda name: name)
        self._slices.remember(content.slices, lambda name: name.partition("/")[0])
        self._patient = False
        self._swap()
        logger.warning("serving from the routing cache %s until the API server answers", self._options.cache_file)

    async def run(self) -> None:
        """Mirror and swap until cancelled."""
        async with self._client, asyncio.TaskGroup() as tasks:
            for reflector, known, namespace in self._mirrors:
                tasks.create_task(reflector.run(), name=f"mirror of {reflector.kind.plural}")
                tasks.create_task(self._confirm(reflector, known, namespace))
            tasks.create_task(self._lose_patience())
            tasks.create_task(self._follow(), name="swap")
            if self._cache is not None:
                tasks.create_task(self._save(self._cache), name="routing cache")

    def cluster(self) -> ClusterReport:
        """Return how discovery is doing."""
        now_s = self._clock.monotonic()
        silence_s: dict[str, float] = {}
        for reflector, _, _ in self._mirrors:
            heard_s = self._started_s if reflector.last_contact_s is None else reflector.last_contact_s
            plural = reflector.kind.plural
            silence_s[plural] = max(silence_s.get(plural, 0.0), now_s - heard_s)
        return ClusterReport(
            silence_s=silence_s,
            restarts=dict(self._restarts),
            skipped={known.plural: known.skipped for known in (self._routings, self._slices)},
            taken=len(self._taken),
        )

    # penstock_kube.reflector.WatchObserver

    def watch_restarted(self, plural: str, reason: str) -> None:
        """Count it."""
        self._restarts[plural, reason] += 1

    # Inside

    @property
    def _all_listed(self) -> bool:
        return all(mirror.has_synced for mirror, _, _ in self._mirrors)

    def _mirror(
        self,
        kind: Kind,
        namespace: str,
        known: Known[Any],
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> tuple[Reflector, Known[Any], str]:
        reflector = Reflector(
            self._client,
            kind,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            backoff=self._backoff,
            clock=self._clock,
            rng=self._rng,
            observer=self,
        )

        def follow(change: Change) -> None:
            if known.follow(change):
                self._changed.set()

        reflector.add_handler(follow)
        return reflector, known, namespace

    async def _confirm(self, reflector: Reflector, known: Known[Any], namespace: str) -> None:
        """Once the list is there, forget what is only remembered."""
        await reflector.wait_synced()
        known.confirm((namespace,) if namespace else _Everywhere())
        self._changed.set()

    async def _lose_patience(self) -> None:
        """Serve what there is when one namespace's list does not come: it need not hold up all the others."""
        await self._clock.sleep(self._options.first_lists_s)
        if not self._all_listed:
            logger.warning("the API server did not answer everything in time: %s", self.error)
        self._patient = False
        self._changed.set()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            await self._clock.sleep(SWAP_S)
            self._changed.clear()
            began_s = self._clock.monotonic()
            listed = any(mirror.has_synced for mirror, _, _ in self._mirrors)
            if self._all_listed or (listed and not self._patient):
                self._swap()
            await self._clock.sleep((self._clock.monotonic() - began_s) * (1 / SWAP_SHARE - 1))

    def _swap(self) -> None:
        """Compile what is known, and apply it if it differs from what is in use."""
        version = 0 if self._snapshot is None else self._snapshot.version
        content = Content(routings=self._routings.forms, slices=self._slices.forms)
        compiled = compile_content(content, version=version, anonymous_tenant=self._options.anonymous_tenant)
        if compiled.taken != self._taken:
            self._taken = compiled.taken
            for problem in compiled.taken:
                logger.warning("%s; it is left out", problem)
        confirmed = self._all_listed
        if compiled.snapshot == self._snapshot and confirmed == self._confirmed:
            return
        self._snapshot = msgspec.structs.replace(compiled.snapshot, version=version + 1)
        self._confirmed = confirmed
        self._apply(self._snapshot, confirmed=confirmed)
        self._unsaved.set()

    async def _save(self, cache: ContentCache) -> None:
        while True:
            await self._unsaved.wait()
            self._unsaved.clear()
            await cache.write(Content(routings=self._routings.forms, slices=self._slices.forms))
            await self._clock.sleep(CACHE_S)


def _access(options: KubernetesOptions) -> Access:
    try:
        return Access.find(options.kubeconfig)
    except ConfigError as error:
        raise StartError(f"{error} (PENSTOCK_GATEWAY_KUBERNETES__KUBECONFIG names a kubeconfig)") from error
