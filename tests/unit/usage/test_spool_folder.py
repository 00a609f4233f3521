from __future__ import annotations

from contextlib import closing
from pathlib import Path

from penstock.cost.deliveries import Delivery
from penstock.cost.segments import segments_in
from penstock.cost.spool import SpoolWriter
from penstock_usage.spool import SpoolFolder
from tests.unit.cost.builders import usage

ALL = 10**9


def everything(folder: SpoolFolder) -> list[Delivery]:
    sight = folder.look()
    return [one for source in sight.sources.values() for one in folder.read(source, 0, ALL, ALL)]


def test_an_open_segment_is_neither_sealed_nor_its_writer_gone(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, "gateway") as writer:
        writer.append(usage("a", 1, 2))
        with closing(SpoolFolder(tmp_path, writer.identity)) as folder:
            (delivery,) = everything(folder)
    assert (delivery.sealed, delivery.writer_gone) == (False, False)


def test_one_segment_of_a_writer_at_a_time_and_the_last_one_says_that_it_has_gone(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "gateway", segment_bytes=300)
    folder = SpoolFolder(tmp_path, writer.identity)
    for number in range(3):
        writer.append(usage(str(number), 1, 2))
    (first,) = everything(folder)
    assert (first.sealed, first.writer_gone) == (True, False)
    writer.close()
    gone = []
    while segments_in(tmp_path):
        (delivery,) = everything(folder)
        gone.append(delivery.writer_gone)
        folder.delete(delivery.segment)
    folder.close()
    assert gone == [False] * (len(gone) - 1) + [True]
    assert len(gone) > 1


def test_a_living_neighbours_segments_are_left_alone_and_a_dead_ones_are_shipped_by_one(tmp_path: Path) -> None:
    own, neighbour = SpoolWriter(tmp_path, "gateway"), SpoolWriter(tmp_path, "gateway", segment_bytes=300)
    for number in range(3):
        neighbour.append(usage(str(number), 1, 2))
    first, second = SpoolFolder(tmp_path, own.identity), SpoolFolder(tmp_path, None)
    assert first.look().own_segments == 1
    assert len(first.look().sources) == 1
    assert second.look().sources == {}
    neighbour.close()
    assert len(first.look().sources) == 2
    assert second.look().sources == {}
    own.close()
    first.close()
    assert len(second.look().sources) == 2
    second.close()


def test_reading_stops_where_there_is_no_room(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, "gateway") as writer:
        for number in range(20):
            writer.append(usage(str(number), 1, 2))
        folder = SpoolFolder(tmp_path, writer.identity)
        (source,) = folder.look().sources.values()
        deliveries = folder.read(source, 0, 500, 2000)
        folder.close()
    assert 2000 <= sum(len(one.data) for one in deliveries) < 2500
    assert all(one.data.endswith(b"\n") for one in deliveries)
