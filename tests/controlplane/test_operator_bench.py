"""The operator benchmark at a small size: every phase, and the two counts of API calls agree."""

import pytest

from penstock_loadtest.bench.operator import compare, measure
from penstock_loadtest.bench.operator.plan import OperatorPlan
from penstock_loadtest.errors import MissingSubjectError
from tests.support import binaries

pytestmark = pytest.mark.controlplane


def test_every_phase_is_measured_and_the_audit_log_agrees(monkeypatch, tmp_path):
    monkeypatch.setattr(compare, "find", binaries.find)
    plan = OperatorPlan(models=12, namespaces=3, edits=4, idle_s=3.0, give_up_s=120.0, bytecode=tmp_path / "bytecode")
    said = []
    outcome = compare.run_plan(plan, said.append)
    rows = {row.metric: row.median for row in outcome.rows}
    assert set(rows) == {metric.name for metric in outcome.metrics}
    assert 0 < rows["first_ready_s"] <= rows["median_ready_s"] <= rows["reconciled_s"]
    assert rows["idle_calls_per_min"] == 0
    assert rows["calls_per_model"] >= 3  # a finalizer, a slice and a status for each
    assert any("agreed with the audit log" in note for note in outcome.notes), outcome.notes
    assert any("patch models/status" in note for note in outcome.notes)
    assert measure.SUBJECT in {row.subject for row in outcome.rows}


def test_missing_programs_are_named_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingSubjectError, match="make bench"):
        compare.run_plan(OperatorPlan(models=1, namespaces=1), lambda _: None)
