"""Real load processes against a scripted server."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import penstock_loadtest
from penstock_loadtest.cli import command
from penstock_loadtest.errors import LoadRunError
from penstock_loadtest.records import Outcome, read_records
from penstock_loadtest.run import HeadlessRun, run_headless
from penstock_loadtest.settings import LoadSettings, Shape
from tests.integration.loadtest.scripted import scripted_server


def settings_for(server, **changed):
    common = {
        "url": server.url, "model": "tiny", "api_key": "sk-test", "users": 2, "duration_s": 1.0,
        "prompt_tokens": "8-20", "output_tokens": "4", "bytes_per_token": 1.0, "think_time_s": 0.01,
        "stop_timeout_s": 5.0,
    }  # fmt: skip
    return LoadSettings(**{**common, **changed})


def test_streams_are_measured_and_recorded(tmp_path):
    with scripted_server("good") as server:
        report = run_headless(settings_for(server), tmp_path / "records.jsonl")
    records = list(read_records(tmp_path / "records.jsonl"))
    assert report.requests.total == report.requests.complete == len(records) == len(server.bodies) > 0
    assert report.completion_tokens == 4 * len(records)
    assert report.prompt_tokens == sum(len(body["messages"][0]["content"]) for body in server.bodies)
    assert report.ttft_ms.count == report.tpot_ms.count == len(records)
    assert 0 < report.ttft_ms.p50 <= report.latency_ms.p50
    assert {record.request_id for record in records} == {"req-7"}
    assert set(server.keys) == {"Bearer sk-test"}
    body = server.bodies[0]
    assert (body["stream"], body["stream_options"], body["max_tokens"]) == (True, {"include_usage": True}, 4)
    assert all(8 <= len(body["messages"][0]["content"]) <= 20 for body in server.bodies)


def test_answers_in_one_piece_are_measured_too():
    with scripted_server("good") as server:
        report = run_headless(settings_for(server, stream=False))
    assert report.requests.complete == report.requests.total > 0
    assert report.ttft_ms.count == 0
    assert "stream" not in server.bodies[0]


def test_every_way_to_fail_is_counted_by_its_cause():
    acts = ("shed", "traceback", "error_event", "truncated", "broken", "refused")
    with scripted_server(*acts) as server:
        report = run_headless(settings_for(server, users=1))
    counts = report.requests
    assert counts.complete == 0
    assert counts.total == counts.failed == len(server.bodies) >= len(acts)
    assert set(counts.by_cause) == {
        "ErrorAnswer:overloaded", "MalformedError", "ErrorEvent:overloaded", "Truncated", "ConnectionLost",
        "ConnectionFailed",
    }  # fmt: skip
    assert counts.failed_clean == counts.by_cause["ErrorAnswer:overloaded"] + counts.by_cause["ErrorEvent:overloaded"]


def test_an_open_loop_sends_every_arrival_though_none_is_answered(tmp_path):
    trace = tmp_path / "trace.csv"
    rows = [f"2023-11-16 18:00:0{second}.0000000,30,9" for second in range(5)]
    trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    with scripted_server("slow") as server:
        report = run_headless(
            settings_for(
                server, shape=Shape.TRACE, trace_file=str(trace), time_scale=20, duration_s=60, stop_timeout_s=0.2,
                request_timeout_s=1.0,
            )
        )  # fmt: skip
    assert [body["max_tokens"] for body in server.bodies] == [4] * 5
    assert [len(body["messages"][0]["content"]) for body in server.bodies] == [20] * 5, "capped by the prompt lengths"
    assert report.requests.by_cause == {"TimedOut": 5}
    starts = [second.started for second in report.timeline]
    assert starts[0] == 5, "all were sent in the first second, before any ended"


def test_a_stopped_run_abandons_what_does_not_finish(tmp_path):
    with scripted_server("slow") as server:
        with HeadlessRun(settings_for(server, duration_s=600, stop_timeout_s=0.2), tmp_path / "r.jsonl") as run:
            assert run.running
            with pytest.raises(LoadRunError, match="still running"):
                run.wait(timeout_s=0.01)
            while len(server.bodies) < 2:
                time.sleep(0.02)
            run.stop()
            report = run.wait(timeout_s=30)
        assert (report.requests.abandoned, report.requests.failed) == (2, 0)
        assert [record.outcome for record in run.records()] == [Outcome.ABANDONED] * 2


def test_leaving_a_run_ends_its_process(tmp_path):
    def leave_with_an_error(server):
        with HeadlessRun(settings_for(server, duration_s=600), tmp_path / "r.jsonl") as run:
            pids.append(run.pid)
            message = "the caller failed"
            raise RuntimeError(message)

    pids: list[int] = []
    with scripted_server("slow") as server, pytest.raises(RuntimeError, match="the caller failed"):
        leave_with_an_error(server)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_the_command_writes_a_report_and_fails_with_the_load(tmp_path):
    arguments = ["--model", "tiny", "--duration", "0.5", "--users", "1", "--json", str(tmp_path / "report.json")]
    with scripted_server("shed") as server:
        result = CliRunner().invoke(command, ["--url", server.url, *arguments])
    assert result.exit_code == 1
    assert "ErrorAnswer:overloaded" in result.output
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["requests"]["failed"] == found["requests"]["total"] > 0


def test_the_command_refuses_settings_with_code_2():
    result = CliRunner().invoke(command, ["--url", "nowhere", "--model", "tiny"])
    assert result.exit_code == 2
    assert "http://HOST:PORT" in result.output


@pytest.mark.parametrize(
    "extra",
    [["--users", "1", "--run-time", "3", "--stop-timeout", "30"], ["--shape", "constant", "--shape-seconds", "1"]],
)
def test_anyone_can_run_the_locustfile(extra):
    locustfile = Path(penstock_loadtest.__file__).with_name("locustfile.py")
    options = ["--headless", "--only-summary", "--model", "tiny", "--prompt-tokens", "8", "--think-time", "0.01"]
    with scripted_server("good") as server:
        done = subprocess.run(
            [sys.executable, "-m", "locust", "-f", str(locustfile), "--host", server.url, *options, *extra],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    for kind in ("chat", "TTFT", "TPOT"):
        assert any(line.split()[:2] == [kind, "tiny"] for line in (done.stdout + done.stderr).splitlines()), kind
    assert "completion tokens/s" in done.stdout + done.stderr


def test_a_command_that_is_told_to_end_takes_its_load_process_with_it():
    with scripted_server("good") as server:
        arguments = ["--url", server.url, "--model", "tiny", "--duration", "60", "--users", "1"]
        parent = subprocess.Popen(
            [sys.executable, "-c", "from penstock_loadtest.cli import command; command()", *arguments]
        )
        while not server.bodies and parent.poll() is None:
            time.sleep(0.01)
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text(encoding="ascii").split()
        parent.terminate()
        assert parent.wait(20) == 128 + signal.SIGTERM
        assert len(children) == 1
        assert not Path("/proc", children[0]).exists()
