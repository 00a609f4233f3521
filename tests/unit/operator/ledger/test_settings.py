from __future__ import annotations

import pytest
from pydantic import ValidationError

from penstock_operator.ledger.settings import Settings


def refusal(**values: str) -> str:
    with pytest.raises(ValidationError) as refused:
        Settings(**values)  # type: ignore[arg-type]
    return "; ".join(problem["msg"] for problem in refused.value.errors())


def test_a_redis_is_needed_and_one_is_enough(tmp_path) -> None:
    assert "PENSTOCK_LEDGER_REDIS_URL" in refusal()
    assert "keep one of them" in refusal(redis_url="redis://r", redis_url_file=str(tmp_path / "url"))
    assert "must look like redis://" in refusal(redis_url="http://:hunter2@r")
    assert "hunter2" not in refusal(redis_url="http://:hunter2@r")


def test_databases_on_servers_are_refused_with_the_remedy() -> None:
    message = refusal(redis_url="redis://r", database_url="postgresql://u:hunter2@db/ledger")
    assert "postgresql:// is not supported" in message
    assert "PENSTOCK_LEDGER_DATABASE" in message
    assert "hunter2" not in message
