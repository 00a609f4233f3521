"""Kills processes of one pod, from the node: `killer.py POD_UID WORD`. Prints how many there were."""

import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Send SIGKILL to each process in the pod's cgroup whose command line has the word."""
    uid, word = sys.argv[1:]
    killed = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            within = uid in (folder / "cgroup").read_text()
            if within and word in (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
        except (FileNotFoundError, ProcessLookupError):
            continue
    sys.stdout.write(f"{killed}\n")


if __name__ == "__main__":
    main()
