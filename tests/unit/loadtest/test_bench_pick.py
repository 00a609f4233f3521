"""The benchmark `pick`: its twin of replicas by hand, and the gateway's pick on a small trace."""

import pytest

from penstock_loadtest.bench.pick.compare import one_cache_hit_share
from penstock_loadtest.bench.pick.policies import POLICIES
from penstock_loadtest.bench.pick.replay import Setup, replay
from penstock_loadtest.bench.pick.twin import PREFILL_TOKENS_PER_S, TPOT_S, Replica, Windows
from penstock_loadtest.errors import LoadSettingsError
from penstock_loadtest.traces.mooncake import BLOCK_TOKENS, PromptedArrival, read_mooncake_trace


def request(at_ms: int, *blocks: int, output_tokens: int = 40) -> PromptedArrival:
    return PromptedArrival(
        at_ms=at_ms, prompt_tokens=len(blocks) * BLOCK_TOKENS, output_tokens=output_tokens, blocks=blocks
    )


def turns(conversations: int, count: int) -> list[PromptedArrival]:
    """Conversations that take turns, each turn a block longer; all begin with the same block."""
    return [
        request(1000 * (turn * conversations + who), 0, *range(1000 * who + 1, 1000 * who + turn + 2))
        for turn in range(count)
        for who in range(conversations)
    ]


def test_a_replica_serves_prompts_one_after_another_and_remembers_the_youngest():
    replica = Replica("r", capacity_blocks=2)
    assert replica.serve(0.0, (1, 2), 1200, 10) == pytest.approx(1200 / PREFILL_TOKENS_PER_S + 10 * TPOT_S)
    assert replica.serve(0.0, (3,), 1200, 0) == pytest.approx(2400 / PREFILL_TOKENS_PER_S)
    assert replica.matched_blocks((1, 2)) == 1
    assert replica.matched_blocks((3, 1)) == 2
    assert replica.matched_blocks((2, 1)) == 0


def test_windows_average_what_is_in_flight():
    busy, idle = Replica("busy", 1), Replica("idle", 1)
    windows = Windows(2, window_s=10.0)
    windows.advance(12.0, (busy, idle))
    busy.in_flight, idle.in_flight = 3, 1
    windows.advance(17.0, (busy, idle))
    busy.in_flight = 0
    windows.advance(31.0, (busy, idle))
    assert windows.ratios().requests == pytest.approx([15 / ((15 + 8) / 2), 2.0])


def test_one_cache_finds_all_that_came_before_and_no_more_than_it_holds():
    trace = [request(0, 1, 2), request(1, 1, 2, 3, 4), request(2, 5), request(3, 1, 2)]
    assert one_cache_hit_share(trace, 100 * BLOCK_TOKENS) == pytest.approx(4 / 9)
    assert one_cache_hit_share(trace, 3 * BLOCK_TOKENS) == pytest.approx(4 / 9)
    assert one_cache_hit_share(trace, BLOCK_TOKENS) == pytest.approx(1 / 9)


def test_the_pick_finds_most_of_what_cache_first_finds_and_far_more_than_who_knows_no_prompts():
    trace = turns(conversations=16, count=12)
    setup = Setup(cache_tokens=10_000_000, replicas=8)
    results = {name: replay(trace, setup, policy, seed=1) for name, policy in POLICIES.items()}
    assert results["penstock"].hit_share > results["cache-first"].hit_share - 0.1
    assert results["penstock"].hit_share > results["least-loaded"].hit_share + 0.2
    assert results["penstock"].hit_share > results["random"].hit_share + 0.2


def test_a_replay_is_the_same_each_time():
    trace = turns(conversations=5, count=5)
    setup = Setup(cache_tokens=100_000, replicas=3)
    assert replay(trace, setup, POLICIES["penstock"], seed=3) == replay(trace, setup, POLICIES["penstock"], seed=3)


def test_the_trace_is_what_its_readme_says():
    trace = read_mooncake_trace()
    assert len(trace) == 12_031
    assert max(len(request.blocks) for request in trace) <= 256
    assert one_cache_hit_share(trace, 10**12) == pytest.approx(0.374, abs=0.001)


def test_a_file_that_is_no_trace_is_refused(tmp_path):
    path = tmp_path / "trace.jsonl.gz"
    with pytest.raises(LoadSettingsError, match="cannot be read"):
        read_mooncake_trace(path)
    path.write_bytes(b"no gzip")
    with pytest.raises(LoadSettingsError):
        read_mooncake_trace(path)
