"""The gateway benchmark runs, and fails when an answer or the meter is wrong. What it measures is not judged here."""

import socket
import threading
from contextlib import contextmanager

import pytest

from penstock_loadtest.bench.gateway.client import run_closed, run_open
from penstock_loadtest.bench.gateway.compare import METRICS, measure_rounds
from penstock_loadtest.bench.gateway.measure import GatewayPlan, measure_subject, running_bench
from penstock_loadtest.bench.gateway.subjects import Direct, Penstock, Started
from penstock_loadtest.bench.gateway.traffic import TrafficPlan, make_traffic
from penstock_loadtest.bench.machine import choose_cores
from penstock_loadtest.errors import WrongAnswerError

PLAN = GatewayPlan(
    rounds=1, seconds=0.2, warm_up_s=0.05, settle_s=0.0, unary_connections=4, streams=8, tick_s=0.002,
    traffic=TrafficPlan(keys=20, models=5, unary=60, streams=16, largest_stream_tokens=20),
)  # fmt: skip


@contextmanager
def answering(change):
    """Answer every request on one connection after another with the right bytes of its row, changed."""
    traffic = make_traffic(PLAN.traffic)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                data = b""
                while chunk := sock.recv(65536):
                    data += chunk
                    found = [e for e in traffic if data == e.request]
                    if found:
                        sock.sendall(change(found[0]))
                        data = b""

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], traffic
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def answer(body, status=b"200 OK", length=None):
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body) if length is None else length, body)


def chunked(*pieces):
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


def test_the_upstream_answers_rightly_and_counts():
    with running_bench(PLAN, choose_cores()) as bench:
        unary = run_closed(bench.ports[0], bench.unary, connections=4, seconds=0.1)
        streams = run_closed(bench.ports[1], bench.streams, connections=8, seconds=0.1)
        opened = run_open(bench.ports[0], bench.unary, requests_per_s=200, connections=4, seconds=0.2)
        counts = bench.take_served()
    assert unary.requests >= 4
    assert streams.requests >= 8
    assert streams.events > streams.requests * 16
    assert len(opened.latencies_s) == opened.requests
    assert sum(counts.values()) == unary.requests + streams.requests + opened.requests


def test_every_metric_is_measured_for_the_gateway_and_its_meter_agrees():
    samples = measure_rounds(PLAN, choose_cores(), [Direct(), Penstock()], lambda _: None)
    metrics = {sample.metric for sample in samples if sample.subject == "penstock"}
    assert metrics == {metric.name for metric in METRICS}
    assert {sample.metric for sample in samples if sample.subject == "direct"} == {"unary_rps"}


def test_a_meter_without_records_fails_the_run(tmp_path):
    class Unmetered(Direct):
        name = "unmetered"

        def start(self, site):
            return Started(port=site.upstream_ports[0], process=None, spool=tmp_path)

    with running_bench(PLAN, choose_cores()) as bench, pytest.raises(WrongAnswerError, match="unmetered: the meter"):
        measure_subject(bench, Unmetered(), 0)


@pytest.mark.parametrize("frame", [lambda e: answer(e.body), lambda e: chunked(e.body[:50], e.body[50:])])
def test_framing_may_differ(frame):
    with answering(frame) as (port, traffic):
        assert run_closed(port, traffic[:1], connections=1, seconds=0).requests == 1


@pytest.mark.parametrize(
    "lie",
    [
        lambda e: answer(e.body.replace(b"stop", b"halt").replace(b'"index":0', b'"index":1')),
        lambda e: answer(e.body[:-1] + b" "),
        lambda e: answer(e.body + b" "),
        lambda e: answer(e.body, status=b"500 Oops"),
        lambda e: chunked(e.body[:50], e.body[51:]),
        lambda e: b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_changed_answer_is_found(lie):
    with answering(lie) as (port, traffic), pytest.raises(WrongAnswerError, match="exchange 0"):
        run_closed(port, traffic[:1], connections=1, seconds=0)


def test_a_stream_with_an_event_missing_is_found():
    def short(exchange):
        events = exchange.body.split(b"\n\n")
        return chunked(*(event + b"\n\n" for event in [*events[:3], *events[4:-1]]))

    with answering(short) as (port, traffic), pytest.raises(WrongAnswerError, match="the body is not the upstream's"):
        run_closed(port, traffic[-1:], connections=1, seconds=0)


def test_a_damaged_request_is_found():
    with running_bench(PLAN, choose_cores()) as bench:
        with socket.create_connection(("127.0.0.1", bench.ports[0])) as sock:
            sock.sendall(bench.unary[7].request.replace(b"@@000007", b"@@000008"))
            assert sock.recv(100).startswith(b"HTTP/1.1 400")
        with pytest.raises(WrongAnswerError, match="damaged"):
            bench.take_served()
