"""The ledger process as its users and its cluster see it."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from penstock.cost.ledger import Ledger
from penstock.cost.report import CostReport, build_report
from penstock.cost.spool import SpoolWriter
from penstock_usage.settings import StreamOptions
from tests.integration.usage.conftest import OPTIONS, LedgerProcess, shipping, until
from tests.support.redis_server import PASSWORD, RedisServer, redis_server
from tests.unit.cost.builders import life, reading, usage

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


def write_a_day(spool: SpoolWriter) -> None:
    for line in (*life(start=0, ready=10, end=100), usage("a", 20, 50), usage("b", 40, 60, tenant="beta")):
        spool.append(line)
    spool.append(reading(0, 100))


async def deliver(spool: SpoolWriter, redis: RedisServer, options: StreamOptions = OPTIONS) -> None:
    spool.close()
    async with shipping(spool, redis, options) as shipper:
        assert await shipper.flush(30) == 0


async def test_reports_and_receipts_are_those_of_the_books(
    tmp_path: Path, redis: RedisServer, ledger: LedgerProcess
) -> None:
    ledger.start()
    spool = SpoolWriter(tmp_path / "spool", "gateway")
    write_a_day(spool)
    await deliver(spool, redis)
    answered = msgspec.json.decode(ledger.get("/report").content, type=CostReport)
    with Ledger(ledger.database, read_only=True) as books:
        assert answered == build_report(books.books(), now_s=answered.until_s)
    part = msgspec.json.decode(ledger.get("/report", since="100000001", until="100000002").content, type=CostReport)
    assert (part.since_s, part.until_s, part.paid_usd) == (100000001, 100000002, 0)
    assert ledger.get("/report", by="tenant").json()["by_model"] == {}
    assert ledger.get("/receipt/a").json()["request"]["tenant"] == "acme"
    for path, query, status, words in (
        ("/receipt/nobody", {}, 404, "x-request-id"),
        ("/report", {"by": "colour"}, 400, "tenant or model"),
        ("/report", {"since": "yesterday"}, 400, "since 'yesterday': give a time span"),
        ("/report", {"since": "1h", "until": "2h"}, 400, "since lies after until"),
        ("/nowhere", {}, 404, "Not Found"),
    ):
        answer = ledger.get(path, **query)
        assert answer.status_code == status
        assert words in answer.json()["error"]["message"]
    await until(lambda: "penstock_paid_usd_total 100.0" in ledger.get("/metrics").text)
    assert "penstock_ledger_stream_up 1.0" in ledger.get("/metrics").text
    assert ledger.stop() == 0


async def test_a_redis_that_is_away_is_told_and_reports_go_on(redis: RedisServer, ledger: LedgerProcess) -> None:
    ledger.start()
    await until(lambda: ledger.get("/readyz").text == "ok")
    redis.kill()
    await until(lambda: "nothing was taken from the usage stream" in ledger.get("/readyz").text)
    assert ledger.get("/readyz").status_code == 200
    assert ledger.get("/report").status_code == 200
    redis.start()
    await until(lambda: ledger.get("/readyz").text == "ok")
    assert PASSWORD not in ledger.log.read_text()
    assert "pass%20word" not in ledger.log.read_text()


async def test_a_second_ledger_waits_for_the_first_to_let_go_of_the_books(
    tmp_path: Path, redis: RedisServer, ledger: LedgerProcess
) -> None:
    ledger.start()
    second = LedgerProcess(tmp_path, redis)
    second.log = tmp_path / "second.log"
    try:
        second.start(wait=False)
        await until(lambda: second.log.exists() and "another process holds" in second.log.read_text())
        ledger.kill()
        await until(lambda: "listening on port" in second.log.read_text())
    finally:
        second.kill()


async def test_a_ledger_with_other_books_takes_nothing_from_the_stream_of_the_first(
    tmp_path: Path, redis: RedisServer, ledger: LedgerProcess
) -> None:
    ledger.start()
    await until(lambda: ledger.get("/readyz").text == "ok")
    (tmp_path / "other").mkdir()
    other = LedgerProcess(tmp_path / "other", redis)
    try:
        other.start()
        await until(lambda: "reads this stream and we are" in other.get("/readyz").text)
        spool = SpoolWriter(tmp_path / "spool", "gateway")
        write_a_day(spool)
        await deliver(spool, redis)
        assert other.get("/receipt/a").status_code == 404
        assert ledger.get("/receipt/a").status_code == 200
        assert ledger.stop() == 0  # lets go of the stream, so that the other need not wait for the lease
        await until(lambda: other.get("/readyz").text == "ok", within_s=10)
    finally:
        other.kill()


async def test_a_full_redis_makes_shippers_wait_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    with redis_server(folder, options=("--maxmemory", "2mb", "--maxmemory-policy", "noeviction")) as redis:
        ledger = LedgerProcess(tmp_path, redis)
        spool = SpoolWriter(tmp_path / "spool", "gateway")
        for number in range(8000):
            spool.append(usage(f"r{number}", number, number + 1))
        spool.close()
        try:
            async with shipping(spool, redis, OPTIONS.model_copy(update={"batch_bytes": 65536})) as shipper:
                await until(lambda: "maxmemory" in (shipper.condition() or ""))
                ledger.start()
                assert await shipper.flush(60) == 0
            with Ledger(ledger.database, read_only=True) as books:
                assert books.books().faults["orphaned"] == 8000
                assert books.books().faults["duplicate"] == 0
        finally:
            ledger.kill()


async def test_a_restored_ledger_asks_for_what_it_lacks(
    tmp_path: Path, redis: RedisServer, ledger: LedgerProcess
) -> None:
    ledger.start()
    spool = SpoolWriter(tmp_path / "spool", "gateway")
    async with shipping(spool, redis) as shipper:
        spool.append(usage("before", 1, 2))
        await until(lambda: ledger.get("/receipt/before").status_code == 200)
        ledger.kill()
        with Ledger(None, copy_of=ledger.database) as backup:
            saved = backup.identity()
            copy = tmp_path / "backup.sqlite"
            with (
                contextlib.closing(sqlite3.connect(ledger.database)) as source,
                contextlib.closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
        ledger.start()
        spool.append(usage("after", 3, 4))
        await until(lambda: ledger.get("/receipt/after").status_code == 200)
        await until(lambda: shipper.state.waiting_bytes == 0)
        ledger.kill()
        for suffix in ("", "-wal", "-shm"):
            ledger.database.with_name(ledger.database.name + suffix).unlink(missing_ok=True)
        copy.rename(ledger.database)
        ledger.start()
        spool.append(usage("later", 5, 6))
        await until(lambda: ledger.get("/receipt/later").status_code == 200)
        assert ledger.get("/receipt/after").status_code == 200
        with Ledger(ledger.database, read_only=True) as books:
            assert books.identity() == saved
            assert books.books().faults["duplicate"] == 0
    spool.close()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "PENSTOCK_LEDGER_REDIS_URL"),
        ({"PENSTOCK_LEDGER_REDIS_URL": "http://:hunter2@r"}, "must look like redis://"),
        (
            {"PENSTOCK_LEDGER_REDIS_URL": "redis://r", "PENSTOCK_LEDGER_DATABASE_URL": "postgresql://u:hunter2@d/l"},
            "PENSTOCK_LEDGER_DATABASE_URL: ",
        ),
        ({"PENSTOCK_LEDGER_REDIS_URL": "redis://r", "PENSTOCK_LEDGER_DATABASE": "/proc/none/l"}, "/proc/none"),
    ],
)
def test_a_wrong_setting_is_named_and_no_password_printed(variables: dict[str, str], words: str) -> None:
    began_s = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "penstock_operator.ledger"],
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, time.monotonic() - began_s
    assert words in ended.stderr
    assert "hunter2" not in ended.stderr
    assert "Traceback" not in ended.stderr
