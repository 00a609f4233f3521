"""The platform on a whole real node, as its user meets it: every promise is one test on the report of one run."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3600)]

UNCUT = ("scaling down", "the gateway's roll", "the operator's death", "helm upgrade", "a changed engine argument")
"""What may cut no stream."""
LOSSES = ("a worker pod's deletion", "an engine's death")
"""What takes the streams of one replica along, and no others."""


def streams_at(report: dict[str, Any], cause: str) -> dict[str, Any]:
    assert cause in report["streams"]["by_step"], f"no streams were tried at {cause}: {report['failure']}"
    return dict(report["streams"]["by_step"][cause])


def test_the_whole_way_was_gone(report):
    assert report["failure"] is None


def test_the_first_token_comes_through_the_gateway_with_the_tenants_key(report):
    assert report["first_token_s"] is not None, report["failure"]


def test_replicas_go_from_one_to_two_and_back(report):
    assert report["replicas"] == [1, 2, 1], report["failure"]


@pytest.mark.parametrize("cause", UNCUT)
def test_no_stream_is_cut(report, cause):
    streams = streams_at(report, cause)
    assert streams["cut"] == []
    assert streams["alive_when_it_was_over"] >= 4
    assert sum(lasted_s >= 60 for lasted_s in streams["lasted_s"]) >= 4


@pytest.mark.parametrize("cause", LOSSES)
def test_a_cut_stream_ends_with_an_error_that_says_so(report, cause):
    cut = streams_at(report, cause)["cut"]
    assert all("error event" in each for each in cut), cut


def test_streams_were_alive_when_a_replica_began_to_drain(report):
    assert report["alive_at_drain"] >= 4


def test_streams_were_alive_when_the_new_revision_took_over(report):
    assert report["alive_at_takeover"] >= 4


def test_no_request_of_the_load_fails(report):
    assert report["requests"]["total"] > 100, report["failure"]
    assert report["requests"]["failed"] == {}


def test_kubectl_get_models_shows_live_columns(report):
    header, row = report["kubectl_get_models"]["two replicas"]
    assert header.split() == ["NAMESPACE", "NAME", "READY", "KV%", "QUEUE", "P95-TTFT", "$/MTOK", "IDLE%", "WHY", "AGE"]
    assert "2/2" in row.split()
    assert all(row[header.index(column) :].strip() and not row[header.index(column)].isspace() for column in COLUMNS)


COLUMNS = ("READY", "KV%", "QUEUE", "P95-TTFT", "$/MTOK", "IDLE%", "WHY")


def test_the_bill_names_the_tenant_and_adds_up(report):
    assert "cost" in report, report["failure"]
    cost = report["cost"]
    tenant = cost["by_tenant"]["team/alice"]
    assert tenant["tokens"]["completion"] > 0
    explained = sum(cost[f"{part}_usd"] for part in ("tenants", "idle", "overhead", "pending", "unattributed"))
    assert explained == pytest.approx(cost["paid_usd"], rel=1e-6)


def test_an_uninstall_leaves_what_people_made_and_blocks_nothing(report):
    assert report["models_after_uninstall"] == 1, report["failure"]
