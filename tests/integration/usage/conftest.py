from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from penstock.cost.spool import SpoolWriter
from penstock_usage.settings import RedisUrl, StreamOptions
from penstock_usage.shipper import Shipper
from tests.support.redis_server import RedisServer, redis_server

OPTIONS = StreamOptions(
    connect_s=1.0, answer_s=1.0, backoff_min_s=0.02, backoff_max_s=0.2, period_s=0.05, batch_bytes=2048
)
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_server(folder) as server:
        yield server


def _client() -> httpx2.Client:
    return httpx2.Client(timeout=10, trust_env=False, verify=False)


class LedgerProcess:
    """`python -m penstock_operator.ledger` over a database that outlives it."""

    def __init__(self, folder: Path, redis: RedisServer, **settings: str) -> None:
        self.database = folder / "ledger.sqlite"
        self.log = folder / "ledger.log"
        self._environment = os.environ | {
            "PENSTOCK_LEDGER_REDIS_URL": redis.url,
            "PENSTOCK_LEDGER_DATABASE": str(self.database),
            "PENSTOCK_LEDGER_HTTP_HOST": "127.0.0.1",
            "PENSTOCK_LEDGER_HTTP_PORT": "0",
            "PENSTOCK_LEDGER_SETTLE_PERIOD_S": "0.1",
            "PENSTOCK_LEDGER_SETTLE_LAG_S": "0",
            "PENSTOCK_LEDGER_SETTLE_GRACE_S": "2",
            "PENSTOCK_LEDGER_STREAM__BACKOFF_MIN_S": "0.02",
            "PENSTOCK_LEDGER_STREAM__BACKOFF_MAX_S": "0.2",
            "PENSTOCK_LEDGER_STREAM__ANSWER_S": "1",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._client = _client()
        self.port = 0

    def start(self, *, wait: bool = True) -> None:
        offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "penstock_operator.ledger"], env=self._environment, stderr=log, cwd=REPOSITORY
            )
        deadline_s = time.monotonic() + 60
        while wait:
            text = self.log.read_bytes()[offset:].decode()
            if found := re.search(r"listening on port (\d+)", text):
                self.port = int(found[1])
                return
            assert self._process.poll() is None, text
            assert time.monotonic() < deadline_s, text
            time.sleep(0.02)

    def kill(self) -> None:
        self._client.close()
        self._client = _client()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(30)
        self._process = None
        return code

    def get(self, path: str, **query: str) -> httpx2.Response:
        return self._client.get(f"http://127.0.0.1:{self.port}{path}", params=query)


@pytest.fixture
def ledger(tmp_path: Path, redis: RedisServer) -> Iterator[LedgerProcess]:
    process = LedgerProcess(tmp_path, redis)
    try:
        yield process
    finally:
        process.kill()


@contextlib.asynccontextmanager
async def shipping(spool: SpoolWriter, redis: RedisServer, options: StreamOptions = OPTIONS) -> AsyncIterator[Shipper]:
    shipper = Shipper(spool, RedisUrl(SecretStr(redis.url)), options)
    task = asyncio.create_task(shipper.run())
    try:
        yield shipper
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], bool], within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - another process is watched
            await asyncio.sleep(0.02)
