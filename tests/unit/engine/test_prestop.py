"""A pod that is to go waits for the requests that its replicas have, and for nothing else."""

import urllib.error

import pytest

from penstock.engines.registry import get_engine
from penstock_engine.prestop import HEARD_S, is_busy, replica_ports, wait_idle

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ENGINE = get_engine("vllm")
PAGE = """vllm:num_requests_running{{engine="0"}} {running}
vllm:num_requests_waiting{{engine="0"}} {waiting}
vllm:kv_cache_usage_perc{{engine="0"}} 0.5
vllm:num_preemptions_total{{engine="0"}} 0
vllm:prompt_tokens_total{{engine="0"}} 10
vllm:generation_tokens_total{{engine="0"}} 20
vllm:prefix_cache_queries_total{{engine="0"}} 0
vllm:prefix_cache_hits_total{{engine="0"}} 0
"""


def row(port, state="0A", address="00000000"):
    return f"   0: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 1\n"


def test_replicas_are_found_by_where_they_listen():
    four = HEAD + row(30000) + row(30001, state="01") + row(8265)
    six = HEAD + row(30002, address="0" * 32)
    assert replica_ports([four, six]) == [30000, 30002]


def fetching(answers):
    def fetch(url):
        answer = answers[url.removeprefix("http://127.0.0.1:30000")]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return fetch


@pytest.mark.parametrize(("running", "waiting", "busy"), [(0, 0, False), (1, 0, True), (0, 1, True)])
def test_a_replica_is_busy_while_it_has_requests(running, waiting, busy):
    page = PAGE.format(running=running, waiting=waiting).encode()
    answers = {"/-/routes": b'{"/llama--h100--aaaa": "llama--h100--aaaa"}', "/llama--h100--aaaa/metrics": page}
    assert is_busy(30000, ENGINE, fetching(answers)) is busy


@pytest.mark.parametrize(
    ("problem", "busy"),
    [
        (urllib.error.HTTPError("", 503, "DRAINING", {}, None), True),
        (urllib.error.URLError(ConnectionRefusedError()), False),
        (urllib.error.URLError(TimeoutError()), True),
        (TimeoutError(), True),
    ],
)
def test_one_that_tells_nothing_may_have_requests_until_its_port_is_closed(problem, busy):
    assert is_busy(30000, ENGINE, fetching({"/-/routes": problem})) is busy


class Time:
    def __init__(self):
        self.now_s = 0.0

    def sleep(self, seconds):
        self.now_s += seconds


def waited(busy_until_s, within_s=600.0, ports=(30000,)):
    time = Time()
    idle = wait_idle(
        lambda: list(ports), lambda _: time.now_s < busy_until_s, within_s, clock=lambda: time.now_s, sleep=time.sleep
    )
    return idle, time.now_s


def test_a_pod_without_replicas_goes_at_once():
    assert waited(99.0, ports=()) == (True, 0.0)


def test_an_idle_replica_stays_until_gateways_have_heard():
    assert waited(0.0) == (True, HEARD_S)


def test_requests_are_waited_for_but_no_longer_than_given():
    idle, now_s = waited(60.0)
    assert idle
    assert 60.0 <= now_s <= 63.0
    assert waited(60.0, within_s=10.0) == (False, 10.0)
