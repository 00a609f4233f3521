"""`penstock why`."""

import json

import pytest
from click.testing import CliRunner

from penstock.cli import main
from penstock.scaling.decision import Decision, Direction
from penstock.scaling.log import DecisionLog


@pytest.fixture
def state(tmp_path):
    log = DecisionLog(tmp_path / "decisions.jsonl")
    for at_s, after in ((100.0, 2), (200.0, 1)):
        direction = Direction.UP if after == 2 else Direction.DOWN
        log.append(
            Decision(
                model="tiny",
                at_s=at_s,
                target_before=3 - after,
                target_after=after,
                direction=direction,
                ruling="kv" if after == 2 else "calm",
                reason=f"{direction.value} to {after}.",
            )
        )
    return tmp_path


def why(*arguments):
    return CliRunner().invoke(main, ["why", *map(str, arguments)])


def test_the_last_decision_is_told(state):
    result = why("tiny", "--state", state)
    assert result.exit_code == 0
    assert "tiny: Down to 1." in result.output
    assert "Up to 2." not in result.output


def test_more_of_them_oldest_first(state):
    output = why("tiny", "--last", 5, "--state", state).output
    assert output.index("Up to 2.") < output.index("Down to 1.")


def test_json_for_machines(state):
    decisions = json.loads(why("tiny", "--last", 2, "--state", state, "--output", "json").output)
    assert [decision["ruling"] for decision in decisions] == ["kv", "calm"]


def test_the_state_directory_comes_from_the_environment(state, monkeypatch):
    monkeypatch.setenv("PENSTOCK_STATE", str(state))
    assert why("tiny").exit_code == 0


def test_an_unknown_model_is_told_which_are_known(state):
    result = why("tyni", "--state", state)
    assert result.exit_code == 2
    assert "'tyni'" in result.output
    assert "tiny" in result.output


def test_no_log_says_where_it_looked(tmp_path):
    result = why("tiny", "--state", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "penstock up" in result.output
