"""The demo, run as its user runs it: every promise of its report is checked, and what it leaves behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]

TEMPORARY = ("penstock", "ray", "vllm", "torch", "tmp")
OURS = ("ray::", "raylet", "gcs_server", "VLLM::", "penstock_gateway", "penstock.local")


def _processes() -> set[str]:
    """Return `pid command` of every process that a platform may have started."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if any(mark in command for mark in OURS):
                found.add(f"{entry.name} {command}")
    return found


def _leavings() -> set[str]:
    temporary = {str(path) for path in Path("/tmp").iterdir() if path.name.startswith(TEMPORARY)}
    return {str(path) for path in Path("/dev/shm").iterdir()} | temporary | _processes()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    before = _leavings()
    done = subprocess.run([sys.executable, "-m", "penstock", "demo", "--out", str(folder)], check=False)
    assert done.returncode == 0
    return folder, json.loads((folder / "report.json").read_bytes()), _leavings() - before


@pytest.fixture(scope="module")
def report(run):
    return run[1]


def test_no_request_fails_but_those_lost_to_the_kill(report):
    requests = report["requests"]
    assert requests["failed"] == 0, requests["failed_by_cause"]
    assert requests["lost_without_clean_error"] == 0
    assert requests["completed"] > 100
    assert requests["total"] == requests["completed"] + requests["abandoned"] + requests["lost_to_kill"]


def test_scaling_down_cuts_no_stream(report):
    streams = report["streams"]
    assert streams["alive_at_drain"] >= 4
    assert streams["alive_on_drained_replica"] >= 1
    assert streams["cut_by_scaling"] == 0


def test_replicas_go_up_and_down_again(report):
    targets = [change["target"] for change in report["replicas"]]
    assert [target for at, target in enumerate(targets) if at == 0 or targets[at - 1] != target] == [1, 2, 1]


def test_kv_pressure_rules_the_scale_up(report):
    ups = [decision for decision in report["decisions"] if decision["direction"] == "Up"]
    assert [up["ruling"] for up in ups] == ["kv"]
    assert report["kv_usage_max"] > 0.9
    assert all(decision["reason"] for decision in report["decisions"])


def test_the_bill_adds_up_to_what_the_meter_saw(report):
    usd = report["usd"]
    explained = usd["tenants"] + usd["idle"] + usd["overhead"] + usd["unattributed"]
    assert explained == pytest.approx(usd["paid"], rel=1e-9)
    assert abs(usd["drift_ratio"]) <= 0.01
    assert all(usd["per_million_tokens"][kind] > 0 for kind in ("prompt", "completion", "blended"))


def test_latencies_are_reported(report):
    for name in ("ttft_ms", "tpot_ms"):
        assert 0 < report[name]["p50"] <= report[name]["p99"]


def test_the_page_needs_no_network(run):
    page = (run[0] / "report.html").read_text()
    assert 'src="http' not in page
    assert "KV-cache usage" in page


def test_nothing_is_left_behind(run):
    assert run[2] == set()
