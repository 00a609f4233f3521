"""Lets Models go: stops the operator, removes its finalizer and what pulls images, and tells what is left.

Any step may be done already, or there may be nothing at all: what is found is brought to the same end, so that a job
that is repeated, or runs after half an uninstall, ends well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from penstock_kube.client import KubeClient
from penstock_kube.clock import Clock
from penstock_kube.errors import ConflictError, ForbiddenError, NotFoundError
from penstock_kube.resources import (
    DAEMON_SETS,
    DEPLOYMENTS,
    LEASES,
    MODELS,
    PERSISTENT_VOLUME_CLAIMS,
    RAY_CLUSTERS,
    ROUTES,
    TENANTS,
    Key,
    Kind,
    Object,
    key_of,
)
from penstock_operator.model.plan import FINALIZER
from penstock_operator.pool.names import MANAGED_SELECTOR
from penstock_operator.release.report import Left, counted, describe
from penstock_operator.runtime.finalizers import has_finalizer, remove_finalizer
from penstock_operator.settings import Settings
from penstock_operator.weights.images import IMAGES_LABEL

QUIET_S: Final = 3.0
"""How long nobody may hold the Lease before the operator counts as gone: candidates try every two seconds."""
PATIENCE_S: Final = 60.0
"""How long to wait for that, at most, beyond the Lease's own duration."""
_POLL_S: Final = 0.5
_MOST_PASSES: Final = 5
Say = Callable[[str], None]


async def release(client: KubeClient, settings: Settings, clock: Clock, say: Say, *, dry_run: bool = False) -> bool:
    """Let every Model go and say what stays; return whether no Model is held any more.

    Args:
        client: makes the calls.
        settings: the operator's own: its namespace, its Lease and the namespaces that it serves.
        clock: time and waiting.
        say: takes a line for people.
        dry_run: change nothing, and say what would be done.
    """
    spaces = settings.watch_namespaces or ("",)
    if not dry_run:
        await _stop_operator(client, settings, clock, say)
    models = await _list(client, MODELS, spaces) or []
    held = [model for model in models if has_finalizer(model, FINALIZER)]
    if dry_run:
        names = ", ".join(str(key_of(model)) for model in held)
        say(f"would let {counted(len(held), 'Model')} go: {names}" if held else "no Model is held")
    else:
        held = await _let_go(client, spaces, held, say)
    pulls = await _end_pulls(client, settings, say, dry_run=dry_run)
    left = Left(
        models=[key_of(model) for model in models],
        routes=await _keys(client, ROUTES, spaces),
        tenants=await _keys(client, TENANTS, spaces),
        ray_clusters=await _keys(client, RAY_CLUSTERS, spaces, MANAGED_SELECTOR),
        claims=await _claims(client, settings),
        pulls=pulls,
    )
    for line in describe(left):
        say(line)
    return dry_run or not held


async def _stop_operator(client: KubeClient, settings: Settings, clock: Clock, say: Say) -> None:
    """Scale the operator to none and wait until its leader has let go: a running one puts its finalizer back."""
    where = settings.namespace, settings.lease.name
    try:
        deployment = await client.get(DEPLOYMENTS, *where)
        if deployment["spec"].get("replicas", 1):
            await client.merge_patch(DEPLOYMENTS, *where, {"spec": {"replicas": 0}}, subresource="scale")
            say(f"Deployment {Key(*where)}: scaled to 0")
    except NotFoundError:
        pass
    except ForbiddenError as error:
        say(f"Deployment {Key(*where)} could not be scaled to 0: {error.message}")
    started_s = changed_s = clock.monotonic()
    seen: str | None = None
    while True:
        try:
            lease = await client.get(LEASES, *where)
        except NotFoundError:
            return
        if lease["metadata"]["resourceVersion"] != seen:
            seen, changed_s = lease["metadata"]["resourceVersion"], clock.monotonic()
        spec = lease.get("spec") or {}
        duration_s = float(spec.get("leaseDurationSeconds") or 0) if spec.get("holderIdentity") else QUIET_S
        now_s = clock.monotonic()
        if now_s >= changed_s + duration_s:  # as a candidate would take it over
            return
        if now_s >= started_s + duration_s + PATIENCE_S:
            say(f"{spec.get('holderIdentity') or 'somebody'} still leads: end it, or Models are held again")
            return
        await clock.sleep(_POLL_S)


async def _let_go(client: KubeClient, spaces: Sequence[str], held: list[Object], say: Say) -> list[Object]:
    """Remove our finalizer from Models, and return those that have it all the same."""
    let_go: set[Key] = set()
    for _ in range(_MOST_PASSES):
        for model in held:
            try:
                await remove_finalizer(client, MODELS, model, FINALIZER)
            except ConflictError:
                continue  # it changed since the list: the next pass reads it anew
            let_go.add(key_of(model))
        models = await _list(client, MODELS, spaces) or []
        held = [model for model in models if has_finalizer(model, FINALIZER)]
        if not held:
            break
    if let_go:
        say(f"let {counted(len(let_go), 'Model')} go: {', '.join(str(key) for key in sorted(let_go))}")
    for model in held:
        say(f"Model {key_of(model)} is still held: an operator runs that puts {FINALIZER} back; end it and try again")
    return held


async def _end_pulls(client: KubeClient, settings: Settings, say: Say, *, dry_run: bool) -> list[Key] | None:
    """Delete the DaemonSets that have images pulled ahead; return those that stay, None when we may not look."""
    selector = f"{MANAGED_SELECTOR},{IMAGES_LABEL}"
    found = await _list(client, DAEMON_SETS, (settings.namespace,), selector)
    if found is None:
        return None
    keys = [key_of(obj) for obj in found]
    if keys and dry_run:
        say(f"would delete {counted(len(keys), 'DaemonSet')}: {', '.join(map(str, keys))}")
        return []
    stay: list[Key] = []
    for key in keys:
        try:
            await client.delete(DAEMON_SETS, *key)
        except ForbiddenError:
            stay.append(key)
    gone = [key for key in keys if key not in stay]
    if gone:
        say(f"deleted {counted(len(gone), 'DaemonSet')} of image pulls: {', '.join(map(str, gone))}")
    return stay


async def _claims(client: KubeClient, settings: Settings) -> list[Key] | None:
    """Return the claims with the ledger and with downloaded weights; None when we may not look."""
    spaces = settings.watch_namespaces and sorted({*settings.watch_namespaces, settings.namespace})
    found = await _list(client, PERSISTENT_VOLUME_CLAIMS, spaces or ("",))
    if found is None:
        return None
    return [
        key_of(claim)
        for claim in found
        if claim["metadata"]["name"] == settings.ray.cache_claim
        or (claim["metadata"].get("labels") or {}).get("app.kubernetes.io/part-of") == "penstock"
    ]


async def _keys(client: KubeClient, kind: Kind, spaces: Sequence[str], selector: str | None = None) -> list[Key] | None:
    """Return what there is of a kind; None when we may not look."""
    found = await _list(client, kind, spaces, selector)
    return None if found is None else [key_of(obj) for obj in found]


async def _list(
    client: KubeClient, kind: Kind, spaces: Sequence[str], selector: str | None = None
) -> list[Object] | None:
    """Return the objects of a kind, none where the kind is not known; None when we may not look."""
    found: list[Object] = []
    for namespace in spaces:
        try:
            found += (await client.list(kind, namespace, label_selector=selector)).items
        except NotFoundError:
            continue
        except ForbiddenError:
            if kind is MODELS:
                raise
            return None
    return found
