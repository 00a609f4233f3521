"""Calls on Kubernetes objects: read, watch, apply, patch, delete."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol, Self, cast

from penstock_kube.clock import Clock, Rng, SystemClock
from penstock_kube.config import Access
from penstock_kube.errors import GoneError, KubeError, StatusError, UnreachableError, status_error
from penstock_kube.resources import Kind, Object
from penstock_kube.transport import Request, Transport

_TIMEOUT_S = 30.0
_PAGE = 500
_TRIES = 4
"""Tries of a call that the server turned away with a Retry-After, which says that it did nothing yet."""

Propagation = Literal["Background", "Foreground", "Orphan"]


class Listing(NamedTuple):
    """All objects of a collection at one moment."""

    items: list[dict[str, Any]]
    resource_version: str
    """Where a watch goes on from."""


class WatchEvent(NamedTuple):
    """One line of a watch."""

    type: str
    """ADDED, MODIFIED, DELETED or BOOKMARK."""
    object: dict[str, Any]


class Fence(Protocol):
    """Says whether this process may write, and for how long it is sure of that."""

    def remaining_s(self) -> float:
        """Return for how many seconds writes are safe.

        Raises:
            NotLeaderError: they are not.
        """


class CallObserver(Protocol):
    """Counts calls."""

    def called(self, verb: str, plural: str, code: int, seconds: float) -> None:
        """Note a call; `code` is the HTTP status, 0 when nobody answered."""


class KubeClient:
    """Works on objects as JSON data.

    Every method raises a `KubeError`: `UnreachableError` without an answer, else the class of the status. Each waits
    for at most `timeout_s`; a call that is turned away with Retry-After is repeated a few times after that time.
    """

    def __init__(
        self,
        access: Access,
        *,
        field_manager: str,
        fence: Fence | None = None,
        observer: CallObserver | None = None,
        clock: Clock | None = None,
        rng: Rng = random.random,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """Make a client; nothing is read or opened yet.

        Args:
            access: how to reach the cluster.
            field_manager: the one name under which this program owns fields.
            fence: asked before each write; writes also end before the fence falls.
            observer: told of each call.
            clock: time and waiting.
            rng: spreads repeats.
            timeout_s: longest time for one exchange, in seconds.
        """
        self.field_manager = field_manager
        self._transport = Transport(access, user_agent=field_manager)
        self._fence = fence
        self._observer = observer
        self._clock = clock or SystemClock()
        self._rng = rng
        self._timeout_s = timeout_s

    def fenced(self, fence: Fence) -> KubeClient:
        """Return a client on the same connections whose writes ask `fence` first."""
        other = object.__new__(KubeClient)
        other.__dict__.update(self.__dict__)
        other._fence = fence
        return other

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection, those of fenced copies too."""
        await self._transport.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """Return one object; `namespace` is empty for cluster-scoped kinds."""
        return await self._call("get", kind, Request("GET", kind.path(namespace, name)))

    async def ask(
        self, kind: Kind, namespace: str, name: str, path: str, query: Mapping[str, Any] | None = None
    ) -> bytes:
        """Return what a pod or Service answers to a GET, by the API server's proxy and the caller's own rights.

        Args:
            kind: Pods or Services.
            namespace: where it is.
            name: `http:NAME:PORT`.
            path: what to ask it for, from `/` on.
            query: parameters; those that are None are left out.

        Raises:
            StatusError: the API server refused, or what is behind it answered with an error.
        """
        request = Request("GET", kind.path(namespace, name, "proxy") + path, query or {})
        with _Observed(self._observer, self._clock, "proxy", kind.plural) as call:
            async with self._transport.send(request, timeout_s=self._timeout_s) as answer:
                call.code = answer.status
                return await answer.read()

    async def list(
        self, kind: Kind, namespace: str = "", *, label_selector: str | None = None, field_selector: str | None = None
    ) -> Listing:
        """Return a collection, read page by page so that a large one burdens neither side.

        The list is consistent: it holds every write that was answered before it was asked for.
        """
        query = {"labelSelector": label_selector, "fieldSelector": field_selector}
        try:
            return await self._pages(kind, namespace, {**query, "limit": _PAGE})
        except GoneError:
            # History was compacted between two pages. One answer without pages cannot be overtaken.
            return await self._pages(kind, namespace, query)

    async def _pages(self, kind: Kind, namespace: str, query: Mapping[str, Any]) -> Listing:
        items: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            page = await self._call("list", kind, Request("GET", kind.path(namespace), {**query, "continue": token}))
            # Items of a list carry neither kind nor apiVersion.
            items += ({**item, "apiVersion": kind.api_version, "kind": kind.kind} for item in page["items"])
            token = page["metadata"].get("continue") or None
            if token is None:
                return Listing(items, page["metadata"]["resourceVersion"])

    async def watch(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout_s: int = 300,
        silence_s: float = 75.0,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield changes after a resource version until the server ends the watch, which is no error.

        Args:
            kind: what to watch.
            namespace: empty for all.
            resource_version: from a list, an event or a bookmark.
            label_selector: as in `list`, and the same one.
            field_selector: as in `list`, and the same one.
            timeout_s: asks the server to end the watch after so long, in whole seconds.
            silence_s: a connection without a byte for so long is dead; bookmarks come about once a minute.

        Raises:
            GoneError: the resource version is too old; list again.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "timeoutSeconds": timeout_s,
        }
        request = Request("GET", kind.path(namespace), query)
        with _Observed(self._observer, self._clock, "watch", kind.plural) as call:
            async with self._transport.send(request, timeout_s=None, silence_s=silence_s) as answer:
                call.code = answer.status
                async for line in answer.content:
                    yield _watch_event(line)

    async def apply(
        self, kind: Kind, obj: Object, *, subresource: str = "", force: bool = True, dry_run: bool = False
    ) -> dict[str, Any]:
        """Server-side apply: make the fields of `obj` ours and leave all others alone.

        Args:
            kind: kind of the object.
            obj: exactly the fields that we own; what was applied before and is missing now is removed.
            subresource: `status` to apply the status.
            force: take fields over from other managers; without it their owner is told in a `ConflictError`.
            dry_run: have the server check and default the object without keeping it.
        """
        metadata = obj["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"], subresource)
        query = {
            "fieldManager": self.field_manager,
            "force": "true" if force else "false",
            "dryRun": "All" if dry_run else None,
        }
        body = {**obj, "apiVersion": kind.api_version, "kind": kind.kind}
        return await self._call("apply", kind, Request("PATCH", path, query, body, "application/apply-patch+yaml"))

    async def create(self, kind: Kind, obj: Object) -> dict[str, Any]:
        """Create an object; `AlreadyExistsError` when there is one of that name."""
        path = kind.path(obj["metadata"].get("namespace", ""))
        body = {**obj, "apiVersion": kind.api_version, "kind": kind.kind}
        return await self._call("create", kind, Request("POST", path, {"fieldManager": self.field_manager}, body))

    async def replace(self, kind: Kind, obj: Object) -> dict[str, Any]:
        """Replace an object if it still has the resource version that `obj` carries, else `ConflictError`."""
        path = kind.path(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        return await self._call("update", kind, Request("PUT", path, {"fieldManager": self.field_manager}, obj))

    async def merge_patch(
        self, kind: Kind, namespace: str, name: str, patch: Object, *, subresource: str = ""
    ) -> dict[str, Any]:
        """Merge JSON into an object; `metadata.resourceVersion` in the patch makes it conditional."""
        path = kind.path(namespace, name, subresource)
        query = {"fieldManager": self.field_manager}
        return await self._call("patch", kind, Request("PATCH", path, query, patch, "application/merge-patch+json"))

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation = "Background",
    ) -> None:
        """Delete an object; one that is not there is no error.

        Args:
            kind: kind of the object.
            namespace: empty for cluster-scoped kinds.
            name: name of the object.
            uid: only the object with this identity, not a later one of the same name; else `ConflictError`.
            resource_version: only if it did not change since; else `ConflictError`.
            propagation: what happens to the objects that it owns.
        """
        wanted = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {field: value for field, value in wanted.items() if value is not None}
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": preconditions,
        }
        try:
            await self._call("delete", kind, Request("DELETE", kind.path(namespace, name), {}, body))
        except StatusError as error:
            if error.code != 404:
                raise

    async def _call(self, verb: str, kind: Kind, request: Request) -> dict[str, Any]:
        tries = 1
        while True:
            timeout_s = self._timeout_s
            if request.method != "GET" and self._fence is not None:
                # A write that outlives our lease could land on top of the next leader's.
                timeout_s = min(timeout_s, self._fence.remaining_s())
            try:
                with _Observed(self._observer, self._clock, verb, kind.plural) as call:
                    async with self._transport.send(request, timeout_s=timeout_s) as answer:
                        call.code = answer.status
                        return cast("dict[str, Any]", json.loads(await answer.read()))
            except KubeError as error:
                if error.retry_after_s is None or not error.retryable or tries == _TRIES:
                    raise
                delay_s = error.retry_after_s * (1 + 0.2 * self._rng())
            except ValueError as error:
                raise UnreachableError(f"{request}: the answer is not JSON: {error}") from error
            tries += 1
            await self._clock.sleep(delay_s)


class _Observed:
    """Tells the observer of one call when it is over."""

    def __init__(self, observer: CallObserver | None, clock: Clock, verb: str, plural: str) -> None:
        self.code = 0
        self._observer, self._clock, self._verb, self._plural = observer, clock, verb, plural
        self._started_s = clock.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, StatusError):
            self.code = error.code
        if self._observer is not None:
            self._observer.called(self._verb, self._plural, self.code, self._clock.monotonic() - self._started_s)


def _watch_event(line: bytes) -> WatchEvent:
    """Parse a line of a watch; raise the Status that an ERROR line carries."""
    try:
        event = json.loads(line)
        kind, obj = event["type"], event["object"]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"a watch broke off within a line: {line[:80]!r}") from error
    if kind == "ERROR":
        raise status_error(int(obj.get("code") or 500), obj)
    return WatchEvent(kind, obj)
