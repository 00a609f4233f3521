"""One request's life at replicas: pick, send, retry while nothing has reached the client, account, end.

    start -> pick -> connect -> send -> head -> body -> settle -> last byte to the client
               ^________________________|  a replica that fails here is left for another

How an answer's body is passed on is in `answers`; this module decides where a request goes and what it comes to.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from penstock.cost.records import Outcome
from penstock_gateway.discovery.fleet import LiveRoute
from penstock_gateway.discovery.live import LiveReplica, Target
from penstock_gateway.errors import EngineFailedError, EngineTimeoutError, GatewayError, NoReplicaError
from penstock_gateway.metering.usage import Usage
from penstock_gateway.relay.answers import Answer, ErrorAnswer, StreamAnswer, UnaryAnswer
from penstock_gateway.relay.choice import Choice
from penstock_gateway.relay.context import Relay
from penstock_gateway.relay.engine_errors import is_engine_dead, shape_engine_error
from penstock_gateway.relay.request import Peek, Request, upstream_body, wants_usage
from penstock_gateway.relay.upstream import UpstreamConnection
from penstock_gateway.tenants.directory import Tenant

if TYPE_CHECKING:
    from penstock_gateway.relay.server import ClientConnection

RETRY_AFTER_S: Final = 2
"""Asked of clients when nothing serves a model now: replicas come back, or start, on the scale of seconds."""

_CONNECT_GRACE_S: Final = 1.0
"""Beyond the connection's own time-out: then nothing will come of it any more."""

_FAILED_MESSAGE: Final = "The engine could not answer this request. It may be sent again."


class Exchange:
    """One inference request. Ends exactly once, by `complete`, `fail` or `client_gone`."""

    __slots__ = (
        "answer", "answered", "body", "choice", "client", "connection", "connects", "deadline_s", "ended",
        "first_token_s", "freshened", "peeked", "reached", "relay", "replica", "request", "resets", "route", "sent_s",
        "server_errors", "target", "tenant", "touched", "tried", "wants_usage",
    )  # fmt: skip

    def __init__(
        self,
        relay: Relay,
        client: ClientConnection,
        request: Request,
        *,
        tenant: Tenant,
        route: LiveRoute,
        peeked: Peek,
    ) -> None:
        self.relay = relay
        self.client = client
        self.request = request
        self.tenant = tenant
        self.route = route
        self.peeked = peeked
        self.wants_usage = peeked.stream is True and wants_usage(peeked)
        self.choice = Choice(relay, peeked, tenant.name, request.id)
        self.tried: tuple[str, ...] = ()
        self.target: Target | None = None
        self.body = b""
        self.replica: LiveReplica | None = None
        """The replica that holds the request now; counted in its `in_flight`."""
        self.reached: LiveReplica | None = None
        """The last replica that was sent the request: its usage record goes there."""
        self.connection: UpstreamConnection | None = None
        self.answer: Answer | None = None
        self.answered = False
        """The client has bytes of the answer: too late for another replica."""
        self.freshened = False
        self.connects = 0
        """Numbers the connections that were asked for: one that comes after it was given up serves nobody."""
        self.resets = 0
        self.server_errors = 0
        self.sent_s = 0.0
        self.first_token_s: float | None = None
        self.deadline_s = 0.0
        self.touched = False
        """Bytes came since the last sweep."""
        self.ended = False

    # Attempts

    def attempt(self, failure: GatewayError | None = None) -> None:
        """Send the request to a replica, or refuse it: with the failure of the one before, if there was one."""
        replica = self._choose() if len(self.tried) < self.relay.settings.retries.max_tries else None
        if replica is None:
            self.fail(failure or self._no_replica())
            return
        self._hold(replica)
        connection = replica.pool.take()
        if connection is not None:
            self._send(connection)
        else:
            self._connect(replica)

    def _connect(self, replica: LiveReplica) -> None:
        self.connects += 1
        self.deadline_s = time.monotonic() + self.relay.settings.deadlines.connect_s + _CONNECT_GRACE_S
        replica.pool.connect(partial(self._connected, self.connects), partial(self._connect_failed, self.connects))

    def _choose(self) -> LiveReplica | None:
        if self.connects or self.tried:  # not the first choice: what went wrong may be news that a snapshot has already
            self.route = self.relay.fleet.routes.get(self.route.name, self.route)
        found = self.choice.choose(self.route.targets(self.choice.turn), self.tried)
        if found is None:
            return None
        target, replica = found
        if self.target is not target:
            self.target = target
            self.body = upstream_body(self.request.body, self.peeked, target.served_name)
        return replica

    def _hold(self, replica: LiveReplica) -> None:
        self.replica = replica
        replica.in_flight += 1
        replica.load.in_flight += 1

    def _release(self) -> None:
        replica, self.replica = self.replica, None
        if replica is not None:
            replica.in_flight -= 1
            replica.load.in_flight -= 1

    def _connected(self, number: int, connection: UpstreamConnection) -> None:
        replica = self.replica
        if self.ended or number != self.connects or replica is None:
            connection.release()
        elif replica.draining or replica.retired:
            # A newer snapshot than the one it was picked from. Nothing was sent there yet.
            connection.release()
            self._release()
            self.connects += 1
            self.tried += (replica.id,)
            self.attempt()
        else:
            self._send(connection)

    def _connect_failed(self, number: int, _error: BaseException) -> None:
        if not self.ended and number == self.connects:
            self._abandon("connect", eject=True)

    def _send(self, connection: UpstreamConnection) -> None:
        replica = self.replica
        assert replica is not None  # noqa: S101 - held before it is connected to
        request = self.request
        now_s = time.monotonic()
        if self.reached is None:
            replica.load.admitted += 1
            replica.load.body_bytes += len(request.body)
        self.reached = replica
        self.choice.sent(replica)
        self.sent_s = now_s
        self.deadline_s = now_s + self.relay.settings.deadlines.first_byte_s
        self.connection = connection
        self.answer = None
        body = self.body
        head = b"%b%b\r\ncontent-length: %d\r\n%b\r\n" % (
            replica.head(request.path),
            request.id.encode(),
            len(body),
            request.forwarded,
        )
        connection.send(self, head, body)

    def _abandon(self, reason: str, *, eject: bool) -> None:
        """Leave a replica that failed before the client had a byte, and try another."""
        replica = self.replica
        assert replica is not None  # noqa: S101 - only called while one holds the request
        self._drop_connection()
        self._release()
        self.connects += 1
        if eject:
            self.relay.ejector.eject(replica)
        self.tried += (replica.id,)
        self.relay.tally.retries[reason] += 1
        self.attempt(EngineFailedError(_FAILED_MESSAGE))

    # What the replica does (`upstream.Receiver`)

    def upstream_head(self, status: int, content_type: bytes) -> None:
        """Choose how the answer is passed on."""
        self.touched = True
        if not 200 <= status < 300:
            self.answer = ErrorAnswer(self, status)
        elif content_type.startswith(b"text/event-stream"):
            self.answer = StreamAnswer(self)
        else:
            self.answer = UnaryAnswer(self, status, content_type)

    def upstream_data(self, data: bytes) -> None:
        """Pass on some of the body."""
        self.touched = True
        if self.answer is not None:
            self.answer.data(data)

    def upstream_end(self) -> None:
        """The answer is whole."""
        self.connection = None
        if self.answer is not None:
            self.answer.end()

    def upstream_lost(self) -> None:
        """The connection broke: another try while the client has nothing, else a clean end."""
        connection, self.connection = self.connection, None
        if self.answered:
            self.replica_died()
            self.fail(EngineFailedError("The engine broke off in the middle of this answer. Send the request again."))
        elif self.answer is None and connection is not None and connection.uses > 1 and not self.freshened:
            # Most likely the replica closed an idle connection just as it was taken: a new one tells.
            self.freshened = True
            replica = self.replica
            assert replica is not None  # noqa: S101 - it held the request until now
            self._connect(replica)
        elif self.resets:
            # A request that broke two replicas is not given a third.
            self.replica_died()
            self.fail(EngineFailedError(_FAILED_MESSAGE))
        else:
            self.resets += 1
            self._abandon("reset", eject=True)

    def refused(self, status: int, body: bytes) -> None:
        """The replica answered with an error: pass a 4xx on, leave for another replica on a 5xx."""
        dead = status >= 500 and is_engine_dead(body)
        if dead:
            self.replica_died()
        if status in {502, 503} or dead:
            self._abandon("engine_dead" if dead else "unavailable", eject=False)
        elif status == 500 and not self.server_errors:
            self.server_errors += 1
            self._abandon("server_error", eject=False)
        else:
            self.fail(shape_engine_error(status, body))

    # Ends

    def complete(self, usage: Usage | None, seen_tokens: int = 0) -> None:
        """Account for a whole answer; the caller then writes the last bytes and calls `leave`."""
        replica = self.replica
        if replica is not None and not replica.ejected:
            replica.backoff_s = 0.0
        self._settle(Outcome.COMPLETE, usage, seen_tokens, 200)

    def fail(self, error: GatewayError) -> None:
        """End with an error: as an answer of its own, or as the last event of a stream."""
        if self.ended:
            return
        usage, seen = (None, 0) if self.answer is None else self.answer.usage_so_far()
        self._drop_connection()
        if self.reached is None:
            load = self.route.first.model.load
            if isinstance(error, NoReplicaError):
                load.shed += 1
            else:
                load.failed += 1
        outcome = Outcome.COMPLETE if error.status < 500 and not self.answered else Outcome.FAILED
        self._settle(outcome, usage, seen, error.status)
        if self.answered:
            self.client.end_stream_with_error(self.request, error)
        else:
            self.client.send_error(self.request, error)
        self.leave()

    def client_gone(self) -> None:
        """The client left: free what the engine holds for it, at once."""
        if self.ended:
            return
        usage, seen = (None, 0) if self.answer is None else self.answer.usage_so_far()
        self._drop_connection()
        self._settle(Outcome.CANCELLED, usage, seen, 499)
        self.answer = None

    def leave(self) -> None:
        """Hand the client connection back for its next request."""
        self.answer = None  # it refers to us: without this every request would be left to the garbage collector
        self.client.exchange_done(self.request)

    def replica_died(self) -> None:
        """Eject the replica that holds the request."""
        if self.replica is not None:
            self.relay.ejector.eject(self.replica)

    def _drop_connection(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abandon(self)

    def _no_replica(self) -> GatewayError:
        name = self.peeked.model
        return NoReplicaError(
            f"The model {name!r} has no replica that takes requests now. Try again shortly.",
            retry_after_s=RETRY_AFTER_S,
        )

    def _settle(self, outcome: Outcome, usage: Usage | None, seen_tokens: int, status: int) -> None:
        self.ended = True
        self._release()
        self.relay.meter.settle(self, outcome, usage, seen_tokens=seen_tokens, status=status)

    # What the client's connection and the sweep say

    def client_slow(self) -> None:
        """The client's buffer is full: stop reading from the replica."""
        if self.connection is not None:
            self.connection.pause()

    def client_ready(self) -> None:
        """There is room again."""
        if self.connection is not None:
            self.connection.resume()

    def tick(self, now_s: float) -> None:
        """Check the replica's deadline, and that somebody still works for this request."""
        connection = self.connection
        if connection is None:
            if now_s > self.deadline_s:
                self._abandon("connect", eject=True)
            return
        if self.touched:
            self.touched = False
            self.deadline_s = now_s + self.relay.settings.deadlines.between_bytes_s
        elif not connection.works_for(self):
            # No way leads here that is known. It is counted, so that one that is found can be told from none.
            self.relay.tally.retries["orphaned"] += 1
            self.upstream_lost()
        elif now_s > self.deadline_s and not connection.paused:
            self.replica_died()
            self.fail(EngineTimeoutError("The engine fell silent while answering this request. Send it again."))
