"""First process of a node's namespaces: prepares their network and mounts, says so, and reaps what is orphaned.

Run as `python init.py` under `unshare --net --mount --pid --fork --mount-proc`. It ends when its standard input closes,
and with it, since it is pid 1 of its namespace, every process, mount and interface of the node: so nothing survives
the process that started it, however that one ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

ADDRESS = "10.200.0.1"
SETUP = (
    # Shared within the node only, as kubelet and containerd want it; nothing reaches the host's mounts.
    ("mount", "--make-rshared", "/"),
    # containerd's shims and kubelet write below these, whatever they are told: the host's stay as they are.
    ("mount", "-t", "tmpfs", "tmpfs", "/run"),
    ("mount", "-t", "tmpfs", "tmpfs", "/var/log"),
    ("ip", "link", "set", "lo", "up"),
    ("ip", "link", "add", "node0", "type", "bridge"),
    ("ip", "address", "add", f"{ADDRESS}/24", "dev", "node0"),
    ("ip", "link", "set", "node0", "up"),
    # kube-proxy and apiserver look for a default route. Nobody is behind this one: nothing can leave the machine.
    ("ip", "route", "add", "default", "via", "10.200.0.254", "dev", "node0"),
)


def main() -> None:
    """Prepare, print `ready`, and wait for standard input to close."""
    for command in SETUP:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    signal.signal(signal.SIGCHLD, reap)
    print("ready", flush=True)  # noqa: T201 - the answer that the starter waits for
    # Not read on the main thread: a signal's handler runs there, and only between two calls.
    threading.Thread(target=end_with_input, daemon=True).start()
    while True:
        signal.pause()


def reap(_signal: int, _frame: FrameType | None) -> None:
    """Collect every process that ended without a parent."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def end_with_input() -> None:
    """End this process, and with it the node, once the starter closed the pipe or died."""
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
