from __future__ import annotations

from pathlib import Path

import pytest

from penstock.cost.records import InFlightMark, ReplicaCensus, SpoolLine, UsageRecord
from penstock.cost.spool import SpoolReader, SpoolWriter
from penstock_operator.promises import CENSUS_PERIOD_S, Promises, emitter
from tests.unit.cost.builders import usage


def written(directory: Path) -> list[SpoolLine]:
    return [record for batch in SpoolReader(directory).read({}) for record in batch.records]


def test_only_a_leader_promises_and_counts_only_what_it_has_seen_whole(tmp_path: Path) -> None:
    leads, present, now_s = [False], [None], [100.0]
    with SpoolWriter(tmp_path, "operator") as spool:
        promises = Promises(spool, is_leader=lambda: leads[0], present=lambda: present[0], clock=lambda: now_s[0])
        promises.promise()
        assert written(tmp_path) == []
        leads[0] = True
        promises.promise()
        present[0] = {"b", "a"}
        now_s[0] = 101.0
        promises.promise()
        now_s[0] = 101.0 + CENSUS_PERIOD_S / 2
        promises.promise()
        now_s[0] = 101.0 + CENSUS_PERIOD_S
        promises.promise()
        lines = written(tmp_path)
    assert [line.at_s for line in lines if isinstance(line, InFlightMark)] == [100, 101, 116, 131]
    assert [line for line in lines if isinstance(line, ReplicaCensus)] == [
        ReplicaCensus(at_s=101, replicas=("a", "b")),
        ReplicaCensus(at_s=131, replicas=("a", "b")),
    ]


def test_a_full_spool_stops_nobody_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with SpoolWriter(tmp_path, "operator", limit_bytes=300) as spool:
        emit = emitter(spool)
        for name in ("kept", "lost"):
            emit(usage(name, 1, 2))
    assert [line.id for line in written(tmp_path) if isinstance(line, UsageRecord)] == ["kept"]
    assert "limit of 300 bytes" in caplog.text
    assert "id='lost'" in caplog.text
