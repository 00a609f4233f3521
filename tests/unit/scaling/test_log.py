"""The decision log: what is written, what is not, and what a reader finds."""

import msgspec

from penstock.scaling.decision import Decision, Direction
from penstock.scaling.log import DecisionLog, known_models, last_decisions


def decision(at_s, model="tiny", **fields):
    defaults = {
        "target_before": 1,
        "target_after": 1,
        "direction": Direction.HOLD,
        "ruling": "min",
        "reason": "Holding 1.",
    }
    return Decision(model=model, at_s=at_s, **(defaults | fields))


def test_quiet_decisions_are_written_twice_a_minute(tmp_path):
    path = tmp_path / "decisions.jsonl"
    log = DecisionLog(path)
    written = [second for second in range(100) if log.append(decision(float(second)))]
    assert written == [0, 30, 60, 90]
    assert [d.at_s for d in last_decisions(path, "tiny", 10)] == [0, 30, 60, 90]


def test_a_change_is_written_at_once(tmp_path):
    log = DecisionLog(tmp_path / "decisions.jsonl")
    assert log.append(decision(0.0))
    assert log.append(decision(1.0, ruling="calm"))
    assert log.append(decision(2.0, ruling="calm", starting=1))
    assert not log.append(decision(3.0, ruling="calm", starting=1))


def test_every_move_is_written(tmp_path):
    log = DecisionLog(tmp_path / "decisions.jsonl")
    up = {"target_after": 2, "direction": Direction.UP, "ruling": "kv"}
    assert all(log.append(decision(float(second), **up)) for second in range(3))


def test_models_do_not_hide_each_other(tmp_path):
    path = tmp_path / "decisions.jsonl"
    log = DecisionLog(path)
    log.append(decision(0.0, "a"))
    log.append(decision(0.0, "b"))
    assert known_models(path) == ["a", "b"]
    assert [d.model for d in last_decisions(path, "b", 5)] == ["b"]


def test_the_log_is_bounded_and_keeps_the_newest(tmp_path):
    path = tmp_path / "decisions.jsonl"
    log = DecisionLog(path, quiet_s=0, max_bytes=4_000)
    for second in range(200):
        log.append(decision(float(second)))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 8_000
    assert [d.at_s for d in last_decisions(path, "tiny", 3)] == [197, 198, 199]


def test_readers_reach_back_into_the_older_file(tmp_path):
    path = tmp_path / "decisions.jsonl"
    log = DecisionLog(path, quiet_s=0, max_bytes=len(msgspec.json.encode(decision(0.0))) * 3)
    for second in range(5):
        log.append(decision(float(second)))
    assert len(path.read_bytes().splitlines()) == 1
    assert [d.at_s for d in last_decisions(path, "tiny", 3)] == [2, 3, 4]


def test_a_line_torn_by_a_crash_hides_no_other(tmp_path):
    path = tmp_path / "decisions.jsonl"
    DecisionLog(path).append(decision(0.0))
    with path.open("ab") as file:
        file.write(b'{"model":"tiny","at_s":1')
    DecisionLog(path).append(decision(2.0))
    assert [d.at_s for d in last_decisions(path, "tiny", 5)] == [0, 2]


def test_no_log_no_decisions(tmp_path):
    assert last_decisions(tmp_path / "none.jsonl", "tiny", 3) == []
