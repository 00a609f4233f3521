from __future__ import annotations

from penstock_operator.ledger.listening import Listening

UNIX_S = 1e9


def listening() -> Listening:
    return Listening(lost_after_s=100, grace_s=60, now_s=0)


def listen(one: Listening, since_s: int, until_s: int, *writers: str) -> None:
    for now_s in range(since_s, until_s + 1):
        one.heard(writers, now_s, UNIX_S + now_s)


def test_nothing_is_settled_before_the_stream_has_been_read_for_a_while() -> None:
    one = listening()
    listen(one, 1, 59)
    assert one.settled_until(59, UNIX_S + 59) == 0
    listen(one, 60, 60)
    assert one.settled_until(60, UNIX_S + 60) == UNIX_S + 60


def test_an_outage_holds_settling_where_it_began_until_its_grace_is_over() -> None:
    one = listening()
    listen(one, 1, 100)
    assert one.settled_until(130, UNIX_S + 130) == UNIX_S + 100
    listen(one, 200, 230)
    assert one.settled_until(230, UNIX_S + 230) == UNIX_S + 100
    listen(one, 250, 270)  # a second one, before the first was over
    assert one.settled_until(270, UNIX_S + 270) == UNIX_S + 100
    listen(one, 271, 310)
    assert one.settled_until(310, UNIX_S + 310) == UNIX_S + 310


def test_a_writer_is_lost_only_while_others_could_be_heard() -> None:
    one = listening()
    listen(one, 1, 10, "quiet", "lively")
    assert one.lost({"quiet", "lively"}) == []
    listen(one, 1000, 1090, "lively")  # the outage before counts for little
    assert one.lost({"quiet", "lively"}) == []
    listen(one, 1091, 1110, "lively")
    assert one.lost({"quiet", "lively"}) == ["quiet"]


def test_after_a_start_a_writers_silence_begins_with_the_first_look() -> None:
    one = listening()
    listen(one, 1, 500)
    assert one.lost({"known from the books"}) == []
    listen(one, 501, 600)
    assert one.lost({"known from the books"}) == []
    listen(one, 601, 602)
    assert one.lost({"known from the books"}) == ["known from the books"]
