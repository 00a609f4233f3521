"""What is left of a platform whose operator was killed: ended, removed, and entered into the books."""

from __future__ import annotations

import time
from pathlib import Path

from penstock.local import procfs
from penstock.local.accounts import LEDGER_FAULTS, close_open_replicas
from penstock.local.cleanup import SegmentRegister, remove_tree
from penstock.local.journal import Timeline
from penstock.local.processes import end_session
from penstock.local.state import StateDirectory

_GRACE_S = 8.0


async def recover(state: StateDirectory) -> str:
    """End what a dead operator left; call it with the state directory locked.

    Returns:
        What was done, in words; empty when there was nothing to do.
    """
    record = state.read_platform()
    if record is None:
        return ""
    children = [child for child in record.children if child.role != "operator"]
    register = SegmentRegister(state.root / "segments.json")
    alive = [child for child in children if procfs.session_members(child.process)]
    register.note(pid for child in alive for pid in procfs.session_members(child.process))
    # Gateways first: their streams end before the engines under them.
    for child in sorted(alive, key=lambda child: child.role):
        await end_session(child.process, grace_s=_GRACE_S)
    now_s = time.time()
    segments = register.remove_orphans()
    remove_tree(Path(record.temp_dir))
    try:
        books = f"closed {len(close_open_replicas(state, now_s, were_alive=bool(alive)))} replicas in the books"
    except LEDGER_FAULTS as error:
        # Nobody's processes may be left running because of it.
        books = f"could not close its replicas in the books: {error}"
    Timeline(state.events).write(now_s, "Platform", None, f"recovered what operator {record.pid} left behind")
    for file in (state.status, state.snapshot, state.platform):
        file.unlink(missing_ok=True)
    return (
        f"the operator {record.pid} that ran here had been killed: ended {len(alive)} of its processes' sessions, "
        f"removed {len(segments)} shared-memory segments, {books}"
    )
