from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from penstock.cli.cost import command
from penstock.cost.ledger import Ledger
from penstock.cost.records import Outcome
from penstock.cost.spool import SpoolWriter
from tests.unit.cost.builders import life, reading, usage


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A platform that has ended; what its last seconds wrote is still in the spool."""
    spool = tmp_path / "spool"
    with SpoolWriter(spool, "operator") as writer:
        for line in (*life(start=100, ready=110, end=140), reading(100, 140)):
            writer.append(line)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.ingest(spool)
    with SpoolWriter(spool, "gateway") as writer:
        writer.append(usage("chat-1", 120, 130, prompt=10, cached=20, completion=0))
        writer.append(usage("chat-2", 130, 131, tenant="beta", outcome=Outcome.FAILED))
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], env={"COLUMNS": "120"})


def test_the_report_lists_every_dollar_and_adds_up(state: Path) -> None:
    report = json.loads(run("--state", state, "--output", "json").stdout)
    assert report["paid_usd"] == 40
    assert (report["tenants_usd"], report["idle_usd"], report["overhead_usd"]) == (10, 19, 11)
    assert report["overhead_by_cause_usd"] == {"cold_start": 10, "failed": 1}
    assert (report["pending_usd"], report["unattributed_usd"], report["drift_ratio"]) == (0, 0, 0)
    assert report["total"]["tokens"] == {"prompt": 0, "cached": 10, "completion": 0}
    assert report["total"]["per_million_tokens"]["cached"] == 1e6
    assert list(report["by_tenant"]) == ["acme"]


def test_the_report_reads_as_a_table_by_tenant_and_by_model(state: Path) -> None:
    shown = run("--state", state)
    assert shown.exit_code == 0
    for words in ("idle: min_replicas", "overhead: cold_start", "unattributed", "40.000000", "acme", "1,000,000.0000"):
        assert words in shown.stdout
    assert "tiny" in run("--state", state, "--by", "model").stdout
    assert "1 clipped" not in shown.stderr


def test_the_report_from_a_moment_on(state: Path) -> None:
    report = json.loads(run("--state", state, "--since", "1970-01-01T00:02:05+00:00", "-o", "json").stdout)
    assert (report["since_s"], report["paid_usd"], report["tenants_usd"]) == (125, 15, 5)
    assert json.loads(run("--state", state, "--since", "7d", "-o", "json").stdout)["paid_usd"] == 0


def test_a_receipt_says_who_bears_what(state: Path) -> None:
    receipt = json.loads(run("receipt", "chat-1", "--state", state, "-o", "json").stdout)
    assert (receipt["usd"], receipt["borne_by"]) == (10, "tenant")
    shown = run("receipt", "chat-2", "--state", state).stdout
    assert "platform" in shown
    assert "1.000000000" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--state", "absent"], "penstock up"),
        (["receipt", "chat-9", "--state", "{state}"], "chat-9"),
        (["--state", "{state}", "--since", "yesterday"], "--since 'yesterday'"),
        (["formula", "--gpu-hourly", "0", "--tokens-per-second", "30"], "--gpu-hourly 0"),
        (["formula", "--gpu-hourly", "2", "--tokens-per-second", "-3"], "--tokens-per-second -3"),
        (["formula", "--gpu-hourly", "nan", "--tokens-per-second", "3"], "--gpu-hourly nan"),
        (["formula", "--gpu-hourly", "2"], "--tokens-per-second"),
    ],
)
def test_a_mistake_is_named_and_exits_with_2(state: Path, arguments: list[str], words: str) -> None:
    result = run(*(argument.format(state=state) for argument in arguments))
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_file_that_is_no_ledger_is_named(state: Path) -> None:
    (state / "ledger.sqlite").write_text("not a database, but long enough to look like one" * 100)
    result = run("--state", state)
    assert result.exit_code == 2
    assert "ledger.sqlite" in result.stderr


def test_the_formula_prints_the_textbook_figure() -> None:
    assert run("formula", "--gpu-hourly", "2", "--tokens-per-second", "30").stdout == "18.52\n"
    answer = json.loads(run("formula", "--gpu-hourly", "2", "--tokens-per-second", "30", "-o", "json").stdout)
    assert answer["usd_per_million_tokens"] == pytest.approx(18.5185185)


@pytest.mark.parametrize("columns", ["20", "80", "200"])
def test_no_width_of_the_terminal_cuts_a_number_or_drops_a_name(state: Path, columns: str) -> None:
    wide = CliRunner().invoke(command, ["--state", str(state)], env={"COLUMNS": "300"}).stdout
    narrow = CliRunner().invoke(command, ["--state", str(state)], env={"COLUMNS": columns}).stdout
    numbers = re.findall(r"[\d,]+\.\d+", wide)
    assert len(numbers) > 10
    assert re.findall(r"[\d,]+\.\d+", narrow) == numbers
    assert "acme" in narrow
