"""Serve's answer is read for what it says and never trusted for more."""

import pytest

from penstock.serve.status import failure_reason, parse_status

REPLICA = {
    "replica_id": "89f5hlqk",
    "actor_name": "SERVE_REPLICA::tiny#Engine#89f5hlqk",
    "state": "RUNNING",
    "pid": 25162,
    "node_ip": "10.0.0.5",
    "node_id": "n1",
    "start_time_s": 1795469799.8,
    "a_field_of_the_future": {},
}


def answer(targets, *, status="RUNNING", deployment="HEALTHY"):
    return {
        "controller_info": {"node_id": "n1"},
        "applications": {
            "tiny": {
                "status": status,
                "message": "",
                "deployments": {
                    "Engine": {"status": deployment, "target_num_replicas": 1, "message": "m", "replicas": [REPLICA]}
                },
            }
        },
        "target_groups": [{"app_name": "tiny", "route_prefix": "/tiny", "protocol": "HTTP", "targets": targets}],
    }


def test_a_replica_gets_the_port_of_the_target_with_its_name():
    target = {"ip": "10.0.0.5", "port": 30000, "name": "SERVE_REPLICA::tiny#Engine#89f5hlqk"}
    [replica] = parse_status(answer([target])).applications["tiny"].replicas
    assert (replica.id, replica.pid, replica.address, replica.port) == ("89f5hlqk", 25162, "10.0.0.5", 30000)


def test_the_proxy_that_stands_in_is_no_replica():
    target = {"ip": "10.0.0.5", "port": 8000, "name": "SERVE_PROXY_ACTOR-c58a"}
    [replica] = parse_status(answer([target])).applications["tiny"].replicas
    assert replica.port is None


@pytest.mark.parametrize("empty", [{}, {"controller_info": {}, "proxies": {}, "applications": {}}])
def test_a_ray_without_serve_runs_nothing(empty):
    status = parse_status(empty)
    assert not status.started
    assert status.applications == {}


def test_an_application_under_construction_has_no_deployment():
    built = answer([])
    built["applications"]["tiny"] |= {"status": "DEPLOYING", "deployments": {}}
    app = parse_status(built).applications["tiny"]
    assert (app.deployment, app.target, app.replicas) == (None, None, ())


def test_the_deployment_s_message_is_the_more_telling_one():
    assert parse_status(answer([])).applications["tiny"].message == "m"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", ""),
        ("Deployment has taken more than 30s", "Deployment has taken more than 30s"),
        (
            "\n".join(
                (
                    "failed to start 3 times",
                    "\x1b[36mray::X\x1b[39m",
                    'File "r.py", line 1',
                    "RuntimeError: Traceback",
                    '  File "e.py", line 5, in __init__',
                    "ValueError: vLLM does not accept --nope",
                )
            ),
            "ValueError: vLLM does not accept --nope",
        ),
        ("vllm.errors.NoSpaceError: no room\n    ^^^^\nsee the log", "vllm.errors.NoSpaceError: no room"),
    ],
)
def test_the_reason_of_a_failure_is_its_innermost_error(message, reason):
    assert failure_reason(message) == reason
