"""Only shared memory that our processes used, and nobody uses now, is removed."""

import mmap
import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from penstock.local.cleanup import SegmentRegister, orphans, segments_used

inodes = st.integers(1, 6)
tables = st.dictionaries(st.sampled_from(["psm_a", "psm_b", "sem.mp-c", "mine"]), inodes)


@given(tables, tables, st.sets(inodes))
def test_an_orphan_is_known_still_the_same_and_unused(known, there, in_use):
    removed = orphans(known, there, in_use)
    for name in known.keys() | there.keys():
        wanted = name in known and there.get(name) == known[name] and known[name] not in in_use
        assert (name in removed) is wanted


def test_a_segment_is_removed_when_its_last_user_has_gone(tmp_path):
    folder = tmp_path / "shm"
    folder.mkdir()
    segment, stranger = folder / "psm_1", folder / "psm_2"
    segment.write_bytes(bytes(4096))
    stranger.write_bytes(bytes(4096))
    code = (
        f"import mmap; f = open({str(segment)!r}, 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close(); "
        "print(1, flush=True); input()"
    )
    user = subprocess.Popen(
        [
            sys.executable,
            "-c",
            code,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert user.stdout is not None
    user.stdout.readline()
    register = SegmentRegister(tmp_path / "segments.json", folder)
    register.note([user.pid])
    assert register.remove_orphans() == []
    register.note([user.pid])
    user.communicate(b"\n")
    later = SegmentRegister(tmp_path / "segments.json", folder)
    assert later.remove_orphans() == ["psm_1"]
    assert [path.name for path in folder.iterdir()] == ["psm_2"]
    assert not (tmp_path / "segments.json").exists()


def test_mapped_and_open_segments_are_seen_and_unlinked_ones_are_not(tmp_path):
    mapped, opened, unlinked = (tmp_path / name for name in ("mapped", "opened", "unlinked"))
    for file in (mapped, opened, unlinked):
        file.write_bytes(bytes(4096))
    with opened.open("rb"), unlinked.open("rb"), mapped.open("r+b") as file:
        view = mmap.mmap(file.fileno(), 0)
        unlinked.unlink()
        assert segments_used(os.getpid(), tmp_path).keys() == {"mapped", "opened"}
        view.close()


def test_a_process_that_is_gone_uses_nothing(tmp_path):
    assert segments_used(2**22 + 1, tmp_path) == {}
