from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from penstock_usage.settings import RedisUrl, RedisUrlError, check_url


@pytest.mark.parametrize("url", ["redis://r", "rediss://u:p%40@r:6380/1", "unix:///run/redis.sock"])
def test_urls_of_redis_are_taken(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize("url", ["", "r:6379", "http://:hunter2@r", "redis://", "redis://:hunter2@r:port", "unix://"])
def test_other_urls_are_refused_without_being_printed(url: str) -> None:
    with pytest.raises(RedisUrlError, match="must look like redis://") as refused:
        RedisUrl.of(SecretStr(url), None)
    assert "hunter2" not in str(refused.value)


def test_a_file_is_read_again_each_time(tmp_path: Path) -> None:
    file = tmp_path / "url"
    where = RedisUrl.of(None, file)
    assert where is not None
    for password in ("one", "two"):
        file.write_text(f"redis://:{password}@r\n")
        assert where.read() == f"redis://:{password}@r"
    assert RedisUrl.of(None, None) is None
    with pytest.raises(RedisUrlError, match="keep one"):
        RedisUrl.of(SecretStr("redis://r"), file)
