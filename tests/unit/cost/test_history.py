"""What a ledger keeps in memory of its replicas is what stands in its database, whoever wrote it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.cost.deliveries import Delivery
from penstock.cost.ledger import Ledger
from penstock.cost.records import MeterReading, ReplicaEvent, ReplicaEventKind
from tests.unit.cost.builders import reading, step

replicas = st.sampled_from(["r1", "r2", "r3", "r4"])
events = st.builds(
    lambda kind, at_s, replica, model, cause: step(kind, at_s, replica=replica, model=model, cause=cause),
    st.sampled_from(ReplicaEventKind),
    st.integers(0, 50),
    replicas,
    st.sampled_from(["m1", "m2"]),
    st.sampled_from(["MinReplicas", "KVBound"]),
)
readings = st.builds(lambda seen_s, replica: reading(0, seen_s, replica=replica), st.integers(1, 50), replicas)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(events | readings, max_size=6)), max_size=8))
def test_memory_and_database_agree(batches: list[tuple[bool, list[ReplicaEvent | MeterReading]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        with Ledger(path) as ours, Ledger(path) as theirs:
            for number, (by_us, lines) in enumerate(batches):
                data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
                segment = f"operator-1-a-{number:06d}.jsonl"
                (ours if by_us else theirs).take([Delivery(segment=segment, start_bytes=0, data=data)], now_s=0)
                kept = ours.books()
                with Ledger(path, read_only=True) as fresh:
                    read = fresh.books()
                assert kept.timelines == read.timelines
                assert kept.meters == read.meters
                assert {name: spans for name, spans in kept.minimum.items() if name in read.minimum} == read.minimum
