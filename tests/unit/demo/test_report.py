"""The demo's counts: what is a failure, what was alive, how targets moved."""

from penstock_loadtest.demo.report import alive_at, count_requests, replica_changes, target_steps
from penstock_loadtest.demo.watch import Sample
from penstock_loadtest.records import Outcome, RequestRecord


def _record(request_id, outcome, start_s=0.0, duration_s=1.0, message=""):
    return RequestRecord(
        start_s=start_s, duration_s=duration_s, outcome=outcome, request_id=request_id, message=message
    )


def _sample(t_s, target, ready, why="calm"):
    return Sample(
        t_s=t_s,
        target=target,
        ready=ready,
        starting=0,
        draining=0,
        kv_usage=0.0,
        waiting=0,
        completion_tokens_per_s=0.0,
        usd_per_million_tokens=None,
        why=why,
    )


def test_only_failures_on_the_killed_engine_are_put_down_to_the_kill():
    records = [
        _record("a", Outcome.COMPLETE),
        _record("b", Outcome.ERROR_EVENT),
        _record("c", Outcome.ERROR_ANSWER, message="no replica"),
        _record("d", Outcome.ABANDONED),
    ]
    counts = count_requests(records, frozenset({"a", "b", "d"}))
    assert (counts.total, counts.completed, counts.abandoned) == (4, 1, 1)
    assert (counts.lost_to_kill, counts.failed) == (1, 1)
    assert counts.failed_by_cause == {"ErrorAnswer: no replica": 1}
    assert counts.lost_without_clean_error == 0


def test_a_stream_that_was_cut_without_an_error_is_not_clean():
    counts = count_requests([_record("a", Outcome.TRUNCATED)], frozenset({"a"}))
    assert counts.lost_without_clean_error == 1


def test_alive_means_begun_and_not_ended():
    records = [_record("a", Outcome.COMPLETE, 0, 5), _record("b", Outcome.COMPLETE, 5, 5)]
    assert [record.request_id for record in alive_at(records, 4.9)] == ["a"]
    assert [record.request_id for record in alive_at(records, 5.1)] == ["b"]


def test_changes_keep_the_moment_and_the_cause_of_each_move():
    samples = [_sample(0, 1, 0), _sample(1, 1, 1), _sample(2, 1, 1), _sample(3, 2, 1, "kv"), _sample(4, 1, 1)]
    changes = replica_changes(samples)
    assert [(change.t_s, change.target, change.ready, change.cause) for change in changes] == [
        (0, 1, 0, "calm"),
        (1, 1, 1, "calm"),
        (3, 2, 1, "kv"),
        (4, 1, 1, "calm"),
    ]
    assert target_steps(changes) == [1, 2, 1]
