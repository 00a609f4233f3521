from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.cost.records import SpoolLine
from penstock.cost.segments import SpoolBatch, writer_of
from penstock.cost.spool import SpoolReader, SpoolWriter
from tests.unit.cost.builders import life, reading, usage


def read(directory: Path, offsets: dict[str, int] | None = None) -> list[SpoolBatch]:
    return list(SpoolReader(directory).read(offsets or {}))


def records(batches: list[SpoolBatch]) -> list[SpoolLine]:
    return [record for batch in batches for record in batch.records]


def test_every_kind_of_record_comes_back_as_it_was(tmp_path: Path) -> None:
    lines: list[SpoolLine] = [usage("a", 1.25, 2.5, first_s=1.5, tenant="zoë\n\r"), *life(start=1.0), reading(0.5, 9)]
    with SpoolWriter(tmp_path, "gateway") as writer:
        for line in lines:
            writer.append(line)
    assert records(read(tmp_path)) == lines


def test_reading_goes_on_where_it_left_off(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, "gateway") as writer:
        writer.append(usage("a", 1, 2))
        (first,) = read(tmp_path)
        writer.append(usage("b", 1, 2))
        (second,) = read(tmp_path, {first.segment: first.end_bytes})
    assert [record.id for record in second.records] == ["b"]
    assert second.start_bytes == first.end_bytes
    assert not second.exhausted


def test_a_segment_is_exhausted_only_once_its_writer_has_gone(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "gateway")
    writer.append(usage("a", 1, 2))
    assert not read(tmp_path)[0].exhausted
    writer.close()
    writer.close()
    assert read(tmp_path)[0].exhausted
    with pytest.raises(ValueError, match="closed"):
        writer.append(usage("b", 1, 2))


def test_a_full_segment_is_followed_by_another_of_the_same_writer(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, "gateway", segment_bytes=1000) as writer:
        for number in range(10):
            writer.append(usage(str(number), 1, 2))
        batches = read(tmp_path)
        segments = SpoolReader(tmp_path).segments()
    assert [record.id for record in records(batches)] == [str(number) for number in range(10)]
    assert len(segments) > 2
    assert {writer_of(segment.name) for segment in segments} == {writer.identity}
    assert [batch.segment for batch in batches if batch.exhausted] == [segment.name for segment in segments[:-1]]


def test_batches_are_bounded_and_longer_lines_still_whole(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, "gateway") as writer:
        for number in range(20):
            writer.append(usage(f"{number}-{'x' * 50 * number}", 1, 2))
    batches = list(SpoolReader(tmp_path).read({}, max_bytes=300))
    assert len(batches) > 5
    assert len(records(batches)) == 20
    assert [batch.exhausted for batch in batches] == [False] * (len(batches) - 1) + [True]


def test_a_torn_last_line_waits_for_its_writer_and_is_malformed_without(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "gateway")
    writer.append(usage("a", 1, 2))
    (segment,) = SpoolReader(tmp_path).segments()
    whole = segment.stat().st_size
    with segment.open("ab") as file:
        file.write(b'{"type":"UsageRec')
    (batch,) = read(tmp_path)
    assert (batch.end_bytes, batch.malformed) == (whole, ())
    writer.close()
    (batch,) = read(tmp_path)
    assert [(line.offset_bytes, line.text) for line in batch.malformed] == [(whole, b'{"type":"UsageRec')]
    assert len(batch.records) == 1


def test_a_write_that_stopped_half_way_does_not_take_the_next_record_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = os.write
    calls: list[int] = []

    def short_write(fd: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return real_write(fd, data[:20])
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real_write(fd, data)

    with SpoolWriter(tmp_path, "gateway") as writer:
        monkeypatch.setattr(os, "write", short_write)
        with pytest.raises(OSError, match="No space"):
            writer.append(usage("a", 1, 2))
        writer.append(usage("a", 1, 2))
    (batch,) = read(tmp_path)
    assert [record.id for record in batch.records] == ["a"]
    assert len(batch.malformed) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\xff\xfe", "malformed|UTF-8|invalid"),
        (b"[]", "Expected `object`"),
        (b'{"type":"Unknown"}', "Unknown"),
        (b'{"type":"UsageRecord","id":"a"}', "missing required field"),
        (
            b'{"type":"MeterReading","replica":"r","began_s":1e300,"seen_s":2,"ended":true,"usd_per_hour":"1"}',
            "began_s",
        ),
        (
            b'{"type":"MeterReading","replica":"r","began_s":1,"seen_s":2,"ended":true,"usd_per_hour":"x"}',
            "usd_per_hour",
        ),
    ],
)
def test_a_line_that_is_no_record_is_told_apart_with_its_place(tmp_path: Path, line: bytes, reason: str) -> None:
    with SpoolWriter(tmp_path, "gateway") as writer:
        writer.append(usage("a", 1, 2))
    (segment,) = SpoolReader(tmp_path).segments()
    offset = segment.stat().st_size
    with segment.open("ab") as file:
        file.write(line + b"\n")
    (batch,) = read(tmp_path)
    (malformed,) = batch.malformed
    assert malformed.offset_bytes == offset
    assert malformed.text == line
    assert any(word in malformed.reason for word in reason.split("|"))


def test_an_absent_directory_holds_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == []


@pytest.mark.parametrize("writer", ["", "a-b", "../a", ".hidden"])
def test_a_writers_name_must_fit_a_file_name(tmp_path: Path, writer: str) -> None:
    with pytest.raises(ValueError, match="writer"):
        SpoolWriter(tmp_path, writer)


def test_a_spool_refuses_records_at_its_limit_and_takes_them_again_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    monkeypatch.setattr("penstock.cost.spool.time.monotonic", lambda: now_s[0])
    with SpoolWriter(tmp_path, "gateway", segment_bytes=1000, limit_bytes=4000) as writer:

        def fill() -> None:
            for number in range(100):
                writer.append(usage(str(number), 1, 2))

        with pytest.raises(OSError, match="limit of 4000 bytes"):
            fill()
        assert 3500 < sum(path.stat().st_size for path in SpoolReader(tmp_path).segments()) <= 4000
        SpoolReader(tmp_path).segments()[0].unlink()
        now_s[0] += 2
        writer.append(usage("again", 1, 2))
    assert [record.id for record in records(read(tmp_path))][-1] == "again"  # type: ignore[union-attr]
