"""Who leads, and who may write, when processes freeze, clocks run and the API server is away."""

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_kube.errors import ConflictError, NotFoundError, NotLeaderError, UnreachableError
from penstock_kube.lease import LeaderElector, LeaseSettings
from tests.unit.kube.fake_clock import FakeClock, Freezer, settle

pytestmark = pytest.mark.anyio


class LeaseServer:
    """One Lease with the API server's rule: a write must carry the resource version that is there."""

    def __init__(self, clock):
        self.clock = clock
        self.lease = None
        self.away = False
        self.silent = False
        self.latency_s = 0.0
        self.calls = 0

    async def _answer(self):
        self.calls += 1
        if self.silent:
            await asyncio.get_running_loop().create_future()
        if self.latency_s:
            await self.clock.sleep(self.latency_s)
        if self.away:
            raise UnreachableError("refused")

    def _keep(self, obj):
        version = str(int((self.lease or {"metadata": {"resourceVersion": "0"}})["metadata"]["resourceVersion"]) + 1)
        self.lease = {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}}
        return self.lease

    async def get(self, kind, namespace, name):
        await self._answer()
        if self.lease is None:
            raise NotFoundError(404, "NotFound", "no lease")
        return self.lease

    async def create(self, kind, obj):
        await self._answer()
        if self.lease is not None:
            raise ConflictError(409, "AlreadyExists", "there is one")
        return self._keep(obj)

    async def replace(self, kind, obj):
        await self._answer()
        if obj["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ConflictError(409, "Conflict", "changed")
        return self._keep(obj)

    @property
    def holder(self):
        return self.lease["spec"]["holderIdentity"]


class Candidate:
    """An elector with its task."""

    def __init__(self, server, clock, name):
        self.elector = LeaderElector(server, LeaseSettings("default", "operator", name), clock=clock, rng=lambda: 0.0)
        self.led = 0
        self.task = asyncio.ensure_future(self.elector.run(self.lead))

    async def lead(self):
        self.led += 1
        await asyncio.get_running_loop().create_future()

    async def stop(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, NotLeaderError):
            await self.task


@pytest.fixture
async def clock():
    return FakeClock()


@pytest.fixture
async def server(clock):
    return LeaseServer(clock)


async def test_one_of_two_leads_and_renews_with_one_call_each_time(server, clock):
    first, second = Candidate(server, clock, "a"), Candidate(server, clock, "b")
    await clock.advance(1.0)
    assert (first.elector.is_leader, second.elector.is_leader) == (True, False)
    before = server.calls
    await clock.advance(20.0)
    assert (first.led, second.led) == (1, 0)
    assert server.calls - before == 20  # ten renewals and ten looks of the other
    await first.stop()
    await second.stop()


async def test_release_lets_the_next_lead_within_one_retry(server, clock):
    first, second = Candidate(server, clock, "a"), Candidate(server, clock, "b")
    await clock.advance(5.0)
    await first.stop()
    assert server.holder == ""
    await clock.advance(2.4)
    assert second.elector.is_leader
    assert server.lease["spec"]["leaseTransitions"] == 1
    await second.stop()


async def test_a_dead_leader_is_followed_after_its_duration_as_the_candidate_saw_it(server, clock):
    server._keep(
        {
            "metadata": {"namespace": "default", "name": "operator"},
            # Written by a machine whose clock is far off: only our own observation counts.
            "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 15, "renewTime": "1999-01-01T00:00:00.000000Z"},
        }
    )
    candidate = Candidate(server, clock, "b")
    await clock.advance(14.9)
    assert not candidate.elector.is_leader
    await clock.advance(2.0)
    assert candidate.elector.is_leader
    await candidate.stop()


async def test_a_leader_without_the_server_stops_writing_before_another_may_start(server, clock):
    leader = Candidate(server, clock, "a")
    await clock.advance(1.0)
    server.away = True
    await clock.advance(9.0)
    with pytest.raises(NotLeaderError):
        leader.elector.remaining_s()
    await clock.advance(2.0)
    with pytest.raises(NotLeaderError):
        await leader.task
    assert clock.monotonic() - 1000.0 < 15  # nobody else's wait has ended by now


async def test_a_leader_that_is_told_of_another_stops_at_once(server, clock):
    leader = Candidate(server, clock, "a")
    await clock.advance(1.0)
    server._keep({**server.lease, "spec": {**server.lease["spec"], "holderIdentity": "by hand"}})
    await clock.advance(5.0)
    assert not leader.elector.is_leader
    with pytest.raises(NotLeaderError):
        await leader.task


async def test_a_stalled_server_counts_as_away(server, clock):
    leader = Candidate(server, clock, "a")
    await clock.advance(1.0)
    server.silent = True
    await clock.advance(11.0)
    assert leader.task.done()
    with pytest.raises(NotLeaderError):
        await leader.task


async def test_a_short_outage_is_survived(server, clock):
    leader = Candidate(server, clock, "a")
    await clock.advance(1.0)
    server.away = True
    await clock.advance(6.0)
    server.away = False
    await clock.advance(30.0)
    assert leader.elector.is_leader
    assert leader.led == 1
    await leader.stop()


async def test_a_frozen_leader_may_not_write_when_it_wakes(server, clock):
    freezer = Freezer(clock)
    frozen, other = Candidate(server, freezer, "a"), Candidate(server, clock, "b")
    await clock.advance(1.0)
    freezer.freeze()
    await clock.advance(20.0)
    assert other.elector.is_leader
    with pytest.raises(NotLeaderError):
        frozen.elector.remaining_s()
    freezer.thaw()
    await clock.advance(3.0)
    with pytest.raises(NotLeaderError):
        await frozen.task
    assert server.holder == "b"
    await other.stop()


async def test_validity_counts_from_before_the_call_that_brought_it(server, clock):
    server.latency_s = 2.0
    leader = Candidate(server, clock, "a")
    await clock.advance(4.0)  # a look and a write
    server.latency_s = 0.0
    assert leader.elector.remaining_s() == pytest.approx(8.0)
    await leader.stop()


async def test_work_that_fails_gives_the_lease_back(server, clock):
    async def broken():
        raise LookupError("no such pool")

    elector = LeaderElector(server, LeaseSettings("default", "operator", "a"), clock=clock, rng=lambda: 0.0)
    with pytest.raises(LookupError):
        await elector.run(broken)
    assert server.holder == ""


async def test_the_lease_is_kept_while_work_winds_down(server, clock):
    finish = asyncio.Event()

    async def careful():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await finish.wait()

    elector = LeaderElector(server, LeaseSettings("default", "operator", "a"), clock=clock, rng=lambda: 0.0)
    task = asyncio.ensure_future(elector.run(careful))
    await clock.advance(1.0)
    task.cancel()
    await clock.advance(30.0)
    assert elector.is_leader
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.holder == ""


async def test_a_deleted_lease_is_made_again(server, clock):
    leader = Candidate(server, clock, "a")
    await clock.advance(1.0)
    server.lease = None
    server.replace = server.create  # a PUT on what is gone
    await clock.advance(5.0)
    assert server.holder == "a"
    await leader.stop()


STEPS = st.tuples(st.sampled_from(["away", "back", "freeze", "thaw", "none"]), st.floats(0.1, 9.0))


@settings(deadline=None, max_examples=20)
@given(steps=st.lists(STEPS, max_size=10))
async def test_never_two_may_write(steps):
    clock = FakeClock()
    server = LeaseServer(clock)
    freezer = Freezer(clock)
    candidates = [Candidate(server, freezer, "a"), Candidate(server, clock, "b"), Candidate(server, clock, "c")]
    for step, seconds in steps:
        server.away = step == "away" or (server.away and step != "back")
        if step == "freeze":
            freezer.freeze()
        elif step == "thaw":
            freezer.thaw()
        for _ in range(5):
            await clock.advance(seconds / 5)
            assert sum(candidate.elector.is_leader for candidate in candidates) <= 1
    freezer.thaw()
    for candidate in candidates:
        await candidate.stop()
    await settle()


@pytest.mark.parametrize(("retry_s", "renew_deadline_s", "duration_s"), [(2.0, 15.0, 15), (9.0, 10.0, 15)])
async def test_times_that_do_not_fence_are_refused(retry_s, renew_deadline_s, duration_s):
    with pytest.raises(ValueError, match="does not hold"):
        LeaseSettings("default", "operator", "a", duration_s, renew_deadline_s, retry_s)
