"""Gateways and ledger as they run in a cluster, with a real Redis between them that dies, stalls and forgets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from penstock.cost.receipts import RequestReceipt
from penstock.cost.records import InFlightMark
from penstock.cost.report import CostReport
from penstock.cost.segments import segments_in
from penstock.cost.spool import SpoolWriter
from tests.integration.usage.conftest import LedgerProcess, shipping, until
from tests.support.redis_server import RedisServer
from tests.unit.cost.builders import life, reading, usage

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

REQUESTS = 600


def report_of(ledger: LedgerProcess) -> CostReport:
    return msgspec.json.decode(ledger.get("/report").content, type=CostReport)


def mark(writer: SpoolWriter, at_s: float) -> InFlightMark:
    return InFlightMark(writer=writer.identity, at_s=at_s, oldest_start_s={})


async def kill_redis(redis: RedisServer, _: LedgerProcess) -> None:
    redis.kill()
    await asyncio.sleep(0.3)
    redis.start()


async def flush_redis(redis: RedisServer, _: LedgerProcess) -> None:
    assert redis.command("FLUSHALL") == b"+OK\r\n"


async def pause_redis(redis: RedisServer, _: LedgerProcess) -> None:
    redis.pause()
    await asyncio.sleep(1.5)
    redis.resume()


async def kill_ledger(_: RedisServer, ledger: LedgerProcess) -> None:
    ledger.kill()
    await asyncio.sleep(0.1)
    await asyncio.to_thread(ledger.start)


FAULTS: dict[str, Callable[[RedisServer, LedgerProcess], Awaitable[None]]] = {
    "redis killed and empty": kill_redis,
    "redis flushed": flush_redis,
    "redis paused": pause_redis,
    "ledger killed": kill_ledger,
}


@pytest.mark.parametrize("names", [[name] for name in FAULTS] + [list(FAULTS)], ids=[*FAULTS, "all of them"])
async def test_every_record_is_counted_once_and_receipts_add_up(
    names: list[str], tmp_path: Path, redis: RedisServer, ledger: LedgerProcess
) -> None:
    dice = random.Random(11)  # noqa: S311 - when to break things is no secret
    ledger.start()
    gateway = SpoolWriter(tmp_path / "gateway", "gateway", segment_bytes=20_000)
    operator = SpoolWriter(tmp_path / "operator", "operator")
    gateway.append(mark(gateway, 0))
    for event in life(start=0, ready=0, end=REQUESTS + 10):
        operator.append(event)
    operator.append(reading(0, REQUESTS + 10))
    breaks = {number: names[at % len(names)] for at, number in enumerate(range(100, REQUESTS, 100))}
    async with shipping(gateway, redis) as shipper, shipping(operator, redis) as other:
        for number in range(REQUESTS):
            gateway.append(usage(f"r{number}", number, number + 1, tenant=f"t{number % 3}"))
            if number % 10 == 0:
                gateway.append(mark(gateway, number + 1))
            if dice.random() < 0.05:
                await asyncio.sleep(0.02)
            if number in breaks:
                await FAULTS[breaks[number]](redis, ledger)
        gateway.close()
        operator.close()
        assert await shipper.flush(60) == 0
        assert await other.flush(60) == 0
    assert segments_in(tmp_path / "gateway") == segments_in(tmp_path / "operator") == []
    await until(lambda: report_of(ledger).pending_usd == 0)
    bill = report_of(ledger)
    assert bill.total.tokens == {"prompt": 10 * REQUESTS, "cached": 0, "completion": REQUESTS}
    assert (bill.tenants_usd, bill.idle_usd, bill.unattributed_usd) == (REQUESTS, 10, 0)
    assert set(bill.faults.values()) == {0}
    receipts = [
        msgspec.json.decode(ledger.get(f"/receipt/r{number}").content, type=RequestReceipt)
        for number in range(REQUESTS)
    ]
    assert sum(receipt.usd for receipt in receipts) == pytest.approx(bill.tenants_usd, abs=1e-9)
    assert shipper.state.records_acknowledged >= REQUESTS
    assert shipper.state.waiting_bytes == 0
