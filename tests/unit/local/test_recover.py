"""After an operator that was killed nothing is left running, and the books are closed as well as can be known."""

from pathlib import Path

import pytest

from penstock.cost.ledger import Ledger
from penstock.cost.records import MeterReading
from penstock.cost.report import build_report
from penstock.cost.spool import SpoolWriter
from penstock.errors import UserError
from penstock.local.accounts import Accounts
from penstock.local.recover import recover
from penstock.local.state import StateDirectory
from tests.unit.cost.builders import life
from tests.unit.local.test_state import record

pytestmark = pytest.mark.anyio


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    """A state directory as an operator leaves it that was killed together with all that it had started."""
    left = StateDirectory(tmp_path / "state")
    left.prepare()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    left.write_platform(record(temp_dir=str(scratch)))
    return left


async def test_a_replica_that_nobody_saw_end_is_paid_for_until_the_meter_saw_it_last(state):
    with SpoolWriter(state.spool, "operator") as spool:
        for event in life(start=100.0, ready=110.0):
            spool.append(event)
        spool.append(MeterReading(replica="r1", began_s=100.0, seen_s=160.0, ended=False, usd_per_hour="3600"))
    assert "closed 1 replicas in the books" in await recover(state)
    with Ledger(state.ledger) as ledger:
        ledger.ingest(state.spool)
        ledger.settle(10_000.0)
        report = build_report(ledger.books(), now_s=10_000.0)
    assert report.paid_usd == pytest.approx(60.0)
    assert (report.unattributed_usd, report.pending_usd) == (0.0, 0.0)


async def test_a_ledger_that_cannot_be_read_keeps_nothing_from_being_cleaned_up(state, tmp_path):
    state.ledger.write_bytes(b"this is no database" * 100)
    assert "could not close its replicas in the books: file is not a database" in await recover(state)
    assert not (tmp_path / "scratch").exists()
    assert state.read_platform() is None


def test_a_ledger_that_cannot_be_used_is_told_before_anything_is_started(state):
    state.ledger.write_bytes(b"this is no database" * 100)
    with pytest.raises(UserError, match=r"ledger\.sqlite cannot be used: file is not a database; move it away"):
        Accounts(state).check()
