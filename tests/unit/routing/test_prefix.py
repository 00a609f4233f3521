"""The index of prompts' beginnings: what it finds, what it forgets, and what it keeps apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.prefix import EDGES, Holders, PrefixIndex, chain

BLOCK = EDGES[0]
prompts = st.lists(st.sampled_from([bytes([letter]) * BLOCK for letter in b"abc"]), max_size=12).map(b"".join)


def held_by(found: list[Holders], replica: str) -> int:
    return max((holders.matched_bytes for holders in found if replica in holders.replicas), default=0)


def index_of(*replicas: str, capacity: int = 100 * BLOCK) -> PrefixIndex:
    index = PrefixIndex(capacity)
    index.keep(replicas)
    return index


def common_bytes(one: bytes, other: bytes) -> int:
    """Return how many whole blocks' bytes are the same at the beginning of both."""
    return max((edge for edge in EDGES if edge <= min(len(one), len(other)) and one[:edge] == other[:edge]), default=0)


@given(prompts, prompts)
def test_a_match_is_as_long_as_the_common_beginning(sent: bytes, asked: bytes):
    index = index_of("r")
    index.record("r", chain(sent, 1))
    assert held_by(index.match(chain(asked, 1)), "r") == common_bytes(sent, asked)


@given(st.lists(st.tuples(st.sampled_from("pqr"), prompts), max_size=8), prompts)
def test_each_replica_holds_the_longest_of_what_it_was_sent_and_the_best_come_first(
    sent: list[tuple[str, bytes]], asked: bytes
):
    index = index_of(*"pqr")
    for replica, prompt in sent:
        index.record(replica, chain(prompt, 1))
    found = index.match(chain(asked, 1))
    for replica in "pqr":
        longest = max((common_bytes(prompt, asked) for to, prompt in sent if to == replica), default=0)
        assert held_by(found, replica) == longest
    assert [holders.matched_bytes for holders in found] == sorted({h.matched_bytes for h in found}, reverse=True)


@given(st.lists(prompts, max_size=20), st.integers(1, 8))
def test_no_more_is_known_than_a_cache_holds_and_a_beginning_outlives_its_end(sent: list[bytes], blocks: int):
    index = index_of("r", capacity=blocks * BLOCK)
    for prompt in sent:
        links = chain(prompt, 1)
        index.record("r", links)
        assert len(index) <= blocks
        matched = held_by(index.match(links), "r")
        assert matched == min(len(prompt), blocks * BLOCK)


def test_the_oldest_is_forgotten_first_and_use_keeps_it_young():
    old, young, new = (chain(letter * 2 * BLOCK, 1) for letter in (b"o", b"y", b"n"))
    index = index_of("r", capacity=4 * BLOCK)
    for links in (old, young, old, new):
        index.record("r", links)
    assert held_by(index.match(old), "r") == held_by(index.match(new), "r") == 2 * BLOCK
    assert index.match(young) == []


def test_a_smaller_cache_holds_less_from_the_next_prompt_on():
    index = index_of("r")
    index.record("r", chain(b"a" * 4 * BLOCK, 1))
    index.resize("r", BLOCK)
    index.record("r", chain(b"b" * 4 * BLOCK, 1))
    assert len(index) == 1


@pytest.mark.parametrize("restart", [True, False], ids=["restarted", "gone"])
def test_what_a_replica_held_is_forgotten_with_it(restart: bool):
    links = chain(b"a" * 3 * BLOCK, 1)
    index = index_of("r", "s")
    for replica in ("r", "s"):
        index.record(replica, links)
    if restart:
        index.forget("r")
    else:
        index.keep(["s"])
        index.keep(["s", "r"])
    assert index.match(links) == [Holders(3 * BLOCK, frozenset({"s"}))]
    index.keep([])
    assert len(index) == 0


@given(st.lists(st.tuples(st.sets(st.sampled_from("pqrs")), st.sampled_from("pqrs"), prompts), max_size=12))
def test_replicas_that_come_and_go_are_never_taken_for_others(steps: list[tuple[set[str], str, bytes]]):
    index = PrefixIndex(100 * BLOCK)
    truth: dict[str, list[bytes]] = {}
    for there, replica, prompt in steps:
        index.keep(sorted(there))
        truth = {name: truth.get(name, []) for name in there}
        index.record(replica, chain(prompt, 1))
        if replica in truth:
            truth[replica].append(prompt)
        found = index.match(chain(prompt, 1))
        for name in "pqrs":
            longest = max((common_bytes(one, prompt) for one in truth.get(name, [])), default=0)
            assert held_by(found, name) == longest


def test_salts_keep_prompts_apart():
    prompt = b"a" * 3 * BLOCK
    index = index_of("r")
    index.record("r", chain(prompt, 1))
    assert index.match(chain(prompt, 2)) == []


def test_a_block_stands_for_all_before_it():
    index = index_of("r")
    index.record("r", chain(b"a" * BLOCK + b"b" * BLOCK, 1))
    assert index.match(chain(b"b" * BLOCK, 1)) == []
    assert index.match(chain(b"c" * BLOCK + b"b" * BLOCK, 1)) == []


def test_what_is_looked_at_is_bounded():
    long = b"a" * (EDGES[-1] + 10 * BLOCK)
    assert len(chain(long, 1)) == len(EDGES)
    assert chain(long, 1) == chain(long + b"more", 1)
    assert chain(b"a" * (BLOCK - 1), 1) == []
