"""Taking a platform down from another process: by asking its operator, or in its place when it is dead."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from penstock.local import procfs
from penstock.local.recover import recover
from penstock.local.state import Child, PlatformRecord, StateDirectory

_BEYOND_DRAIN_S = 90.0
"""After the streams' own time: replicas drain, Ray ends."""


async def take_down(state: StateDirectory, *, patience_s: float | None = None) -> str:
    """End the platform of a state directory; return what was done, in words.

    Args:
        state: Its state directory.
        patience_s: How long its operator may take before it is killed and replaced; by default the time it gives to
            streams and 90 seconds.
    """
    record = state.read_platform()
    if record is None and not state.is_locked():
        return f"nothing runs in {state.root}"
    words = f"down; ledger, decisions and logs stay in {state.root}"
    if state.is_locked():
        limit_s = (record.drain_s if record else 0.0) + _BEYOND_DRAIN_S if patience_s is None else patience_s
        if await _ask(state, record, limit_s):
            return words
    lock = state.acquire()
    try:
        done = await recover(state)
    finally:
        os.close(lock)
    return f"{words}\n{done}" if done else words


async def _ask(state: StateDirectory, record: PlatformRecord | None, patience_s: float) -> bool:
    """Ask the operator to end, and wait; kill it when it does not. Return whether it ended by itself."""
    operator = _operator(record)
    if operator is not None and procfs.is_alive(operator.process):
        os.kill(operator.process.pid, signal.SIGTERM)
    deadline_s = time.monotonic() + patience_s
    # It gives up the lock last of all, a moment before it ends.
    while state.is_locked() or (operator is not None and procfs.is_alive(operator.process)):
        if time.monotonic() >= deadline_s:
            if operator is not None and procfs.is_alive(operator.process):
                os.kill(operator.process.pid, signal.SIGKILL)
            await asyncio.sleep(0.2)
            return False
        await asyncio.sleep(0.1)
    return state.read_platform() is None


def _operator(record: PlatformRecord | None) -> Child | None:
    return next((child for child in record.children if child.role == "operator"), None) if record else None
