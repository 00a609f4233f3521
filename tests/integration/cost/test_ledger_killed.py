"""Ledgers and spool writers die by SIGKILL at random points; in the end the books are what they would have been."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from penstock.cost.ledger import Ledger
from penstock.cost.records import ReplicaEventKind
from penstock.cost.report import build_report
from penstock.cost.spool import SpoolReader, SpoolWriter
from tests.unit.cost.builders import life, reading, step, usage

REPOSITORY = Path(__file__).parents[3]
REQUESTS = 6000

LEDGER = """
import sys
from pathlib import Path
from penstock.cost.ledger import Ledger

with Ledger(Path(sys.argv[1])) as ledger:
    print("open", flush=True)
    while True:
        ledger.ingest(Path(sys.argv[2]))
        ledger.settle(1e6)
"""

WRITER = """
import sys
from pathlib import Path
from penstock.cost.spool import SpoolWriter
from tests.unit.cost.builders import usage

writer = SpoolWriter(Path(sys.argv[1]), "gateway", segment_bytes=20_000)
number = 0
while True:
    writer.append(usage(f"{sys.argv[2]}-{number}", number, number + 1))
    print(number, flush=True)
    number += 1
"""


def killed_after(seconds: float, *command: str) -> str:
    """Start Python, wait for its first word, let it work for a while, kill it, and return what it said."""
    process = subprocess.Popen([sys.executable, "-c", *command], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        said += process.stdout.read()
    assert process.wait() == -signal.SIGKILL
    return said


def test_a_ledger_killed_again_and_again_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    path, spool = tmp_path / "ledger.sqlite", tmp_path / "spool"
    dice = random.Random(7)  # noqa: S311 - when to kill is no secret
    with SpoolWriter(spool, "gateway", segment_bytes=100_000) as gateway:
        for event in life(start=0, ready=0):
            gateway.append(event)
        for number in range(REQUESTS):
            gateway.append(usage(str(number), number, number + 1, tenant=f"t{number % 7}"))
            if number % 1000 == 500:
                killed_after(dice.uniform(0, 0.12), LEDGER, str(path), str(spool))
        gateway.append(step(ReplicaEventKind.END, REQUESTS + 10))
        gateway.append(reading(0, REQUESTS + 10))
    for _ in range(6):
        killed_after(dice.uniform(0, 0.12), LEDGER, str(path), str(spool))
    with Ledger(path) as ledger:
        ledger.ingest(spool)
        ledger.settle(1e6)
        bill = build_report(ledger.books(), now_s=1e6, settled_only=True)
    assert bill.total.tokens == {"prompt": 10 * REQUESTS, "cached": 0, "completion": REQUESTS}
    assert (bill.tenants_usd, bill.idle_usd, bill.unattributed_usd) == (REQUESTS, 10, 0)
    assert set(bill.faults.values()) == {0}
    assert SpoolReader(spool).segments() == []


def test_what_a_writer_appended_before_it_was_killed_is_in_the_ledger(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    appended: dict[str, int] = {}
    for name in ("first", "second", "third"):
        appended[name] = int(killed_after(0.05, WRITER, str(spool), name).splitlines()[-1])
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        taken = ledger.ingest(spool)
        assert all(ledger.usage_record(f"{name}-{last}") is not None for name, last in appended.items())
        # One more may have been written than could be told of.
        assert 0 <= taken - sum(last + 1 for last in appended.values()) <= len(appended)
    assert SpoolReader(spool).segments() == []
