"""Two operators and one lease, as processes: one frozen, killed or asked to go."""

import contextlib
import json
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.controlplane

LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/election"
WRITES = "/api/v1/namespaces/default/configmaps/writes"


@pytest.fixture
def candidates(plane):
    """Start candidates by name; whatever is left of them is killed."""
    running = {}
    for path in (LEASE, WRITES):
        with contextlib.suppress(RuntimeError):
            plane.call("DELETE", path)

    def start(name):
        command = [sys.executable, "-m", "tests.controlplane.elector", str(plane.kubeconfig()), name]
        with (plane.folder / f"{name}.log").open("wb") as log:
            running[name] = subprocess.Popen(command, stdout=log, stderr=log)
        return running[name]

    yield start
    for process in running.values():
        process.kill()
        process.wait(10)


def until(condition, within_s=30.0):
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come to hold"
        time.sleep(0.05)
    return found


def writer(plane):
    try:
        return plane.call("GET", WRITES)["data"]["writer"]
    except RuntimeError:
        return None


def test_a_frozen_leader_writes_nothing_after_another_took_over(plane, candidates):
    first = candidates("one")
    until(lambda: writer(plane) == "one")
    candidates("two")
    first.send_signal(signal.SIGSTOP)
    until(lambda: writer(plane) == "two")

    with plane.client(timeout_s=60.0) as client:
        version = plane.call("GET", WRITES)["metadata"]["resourceVersion"]
        query = {"watch": "true", "resourceVersion": version, "fieldSelector": "metadata.name=writes"}
        with client.stream("GET", "/api/v1/namespaces/default/configmaps", params=query) as history:
            first.send_signal(signal.SIGCONT)
            writers = set()
            for line in history.iter_lines():
                writers.add(json.loads(line)["object"]["data"]["writer"])
                if first.poll() is not None:
                    break
    assert writers == {"two"}
    assert first.returncode != 0  # it says that it lost, and its supervisor starts a fresh one


def test_a_killed_leader_is_followed(plane, candidates):
    first = candidates("one")
    until(lambda: writer(plane) == "one")
    candidates("two")
    first.kill()
    until(lambda: writer(plane) == "two")
    assert plane.call("GET", LEASE)["spec"]["leaseTransitions"] == 1


def test_a_leader_that_is_asked_to_go_releases_the_lease_within_a_retry(plane, candidates):
    first = candidates("one")
    until(lambda: writer(plane) == "one")
    candidates("two")
    until(lambda: "held by 'one'" in (plane.folder / "two.log").read_text())  # it waits
    with plane.client(timeout_s=60.0) as client:
        query = {"watch": "true", "fieldSelector": "metadata.name=election"}
        with client.stream("GET", LEASE.rsplit("/", 1)[0], params=query) as history:
            holders = []
            for line in history.iter_lines():
                lease = json.loads(line)["object"]["spec"]
                if len(holders) == 5:
                    first.send_signal(signal.SIGTERM)
                holders.append(lease.get("holderIdentity", ""))
                if holders[-1] == "two":
                    break
    assert first.wait(10) == 0
    assert holders[-2:] == ["", "two"]
