"""A gateway ships its records to a real ledger through a real Redis, and never waits for either."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from penstock.cost.report import CostReport
from penstock.cost.segments import segments_in
from tests.integration.gateway.conftest import Platform, PlatformFactory, body
from tests.integration.usage.conftest import OPTIONS, LedgerProcess
from tests.support.http import Client, post
from tests.support.redis_server import RedisServer, redis_server

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_server(folder) as server:
        yield server


@pytest.fixture
def ledger(tmp_path: Path, redis: RedisServer) -> Iterator[LedgerProcess]:
    process = LedgerProcess(tmp_path, redis)
    process.start()
    yield process
    process.kill()


async def ask(client: Client) -> str:
    answer = await client.ask(post("/v1/chat/completions", body()))
    assert answer.status == 200
    return answer.headers["x-request-id"]


def orphans(ledger: LedgerProcess) -> int:
    # No operator here: what comes is counted as of replicas that nobody has told of.
    return msgspec.json.decode(ledger.get("/report").content, type=CostReport).faults["orphaned"]


async def test_what_was_answered_while_redis_stood_still_is_in_the_ledger_at_the_end(
    start: PlatformFactory, redis: RedisServer, ledger: LedgerProcess
) -> None:
    platform: Platform = await start("m.r1", redis_url=redis.url, stream=OPTIONS.model_dump(), flush_s=30)
    client = await platform.connect()
    requests = [await ask(client) for _ in range(5)]
    redis.pause()
    requests += [await ask(client) for _ in range(20)]
    await asyncio.sleep(1.5)
    requests += [await ask(client) for _ in range(20)]
    shipper = platform.gateway.shipper
    assert shipper is not None
    while shipper.condition() is None:  # noqa: ASYNC110 - the shipper notices by its own deadline
        await asyncio.sleep(0.05)
    assert "the usage stream is away" in str(shipper.condition())
    redis.resume()
    await platform.gateway.stop()
    assert segments_in(platform.spool) == []
    assert orphans(ledger) == len(set(requests)) == 45
    for request in requests:
        assert ledger.get(f"/receipt/{request}").status_code == 200


async def test_a_gateway_that_ends_while_redis_is_away_leaves_its_records_to_the_next_one(
    start: PlatformFactory, redis: RedisServer, ledger: LedgerProcess
) -> None:
    options = {"redis_url": redis.url, "stream": OPTIONS.model_dump()}
    first: Platform = await start("m.r1", flush_s=0.2, **options)
    client = await first.connect()
    redis.kill()
    requests = [await ask(client) for _ in range(5)]
    await first.close()
    assert len(segments_in(first.spool)) == 1
    redis.start()
    second: Platform = await start("m.r1", flush_s=30, **options)
    requests.append(await ask(await second.connect()))
    await second.gateway.stop()
    assert segments_in(second.spool) == []
    assert orphans(ledger) == len(requests) == 6
