"""What Serve has given up on is given to it anew, ever more rarely, and never while a replica of it is left."""

import msgspec

from penstock.control.retries import FIRST_WAIT_S, LONGEST_WAIT_S, Retries
from penstock.serve.applications import ServeOptions
from penstock.serve.plan import DesiredApplication, PutConfig, plan
from penstock.serve.status import ObservedApplication, ObservedReplica, ServeStatus
from tests.unit.serve.fakes import Serve, application

GIVEN_UP = ObservedApplication(
    name="t", status="DEPLOY_FAILED", message="", config={}, deployment="Engine", deployment_status="DEPLOY_FAILED"
)
REPLICA = ObservedReplica(id="t-1", state="RUNNING", node_id="n", node_ip="10.0.0.1", pid=1, started_s=0.0)


def status(app: ObservedApplication) -> ServeStatus:
    return ServeStatus(started=True, applications={"t": app})


def tries(retries: Retries, until_s: int, app: ObservedApplication = GIVEN_UP) -> list[int]:
    """Return the seconds at which a new try is due, when Serve takes a second to fail again."""
    return [now_s for now_s in range(until_s) if retries.observe(status(app), float(now_s))]


def test_tries_come_ever_more_rarely():
    at_s = tries(Retries(), 4000)
    waits_s = [later - earlier - 1 for earlier, later in zip([-1, *at_s], at_s, strict=False)]
    assert waits_s[:6] == [FIRST_WAIT_S, 60, 120, 240, 480, LONGEST_WAIT_S]


def test_a_new_try_is_a_new_revision_that_serve_does_not_take_for_the_old_one():
    serve, retries, app = Serve(), Retries(), application("t")
    options = ServeOptions(http_host="127.0.0.1")
    for action in plan([DesiredApplication(application=app, target=1)], serve.status(), options):
        serve.apply(action)
    serve.build()
    assert plan([DesiredApplication(application=retries.applied(app), target=1)], serve.status(), options) == ()
    tries(retries, int(FIRST_WAIT_S) + 1)
    again = retries.applied(app)
    [put] = plan([DesiredApplication(application=again, target=1)], serve.status(), options)
    assert isinstance(put, PutConfig)
    assert put.changed == ("t",)
    assert again.revision == f"{app.revision}-1"


def test_a_running_replica_is_not_replaced_because_another_failed():
    assert tries(Retries(), 4000, msgspec.structs.replace(GIVEN_UP, replicas=(REPLICA,))) == []


def test_a_replica_that_ran_makes_the_next_wait_short_again():
    retries = Retries()
    tries(retries, 200)
    running = msgspec.structs.replace(GIVEN_UP, status="RUNNING", deployment_status="HEALTHY", replicas=(REPLICA,))
    retries.observe(status(running), 200.0)
    assert tries(retries, 40) == [int(FIRST_WAIT_S)]
