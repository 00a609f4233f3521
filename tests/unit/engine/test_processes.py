"""A replica that ends takes its family along, and leaves nothing in shared memory."""

import os
import select
import subprocess
import sys
from pathlib import Path

from penstock_engine.processes import EXIT_CODE, descendants


def test_descendants_are_found_through_generations(tmp_path: Path):
    for pid, children in {1: "2 3", 2: "4", 3: "", 4: ""}.items():
        task = tmp_path / str(pid) / "task" / str(pid)
        task.mkdir(parents=True)
        (task / "children").write_text(children)
    assert descendants(1, proc=tmp_path) == [2, 4, 3]
    assert descendants(99, proc=tmp_path) == []


def test_a_process_that_ends_itself_takes_a_stopped_child_along():
    script = (
        "import subprocess, sys, os, signal\n"
        "from penstock_engine.processes import end_process\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "os.kill(child.pid, signal.SIGSTOP)\n"
        "print(child.pid, flush=True)\n"
        "end_process()\n"
    )
    parent = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert parent.returncode == EXIT_CODE
    assert _ends(int(parent.stdout))


def _ends(pid: int, within_s: float = 30.0) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


def test_shared_memory_is_gone_before_the_process_is(tmp_path: Path):
    script = tmp_path / "family.py"
    script.write_text(
        "import multiprocessing, pathlib, time\n"
        "from multiprocessing.shared_memory import SharedMemory\n"
        "from penstock_engine.processes import kill_descendants, release_shared_memory\n"
        "def child(pipe):\n"
        "    segment = SharedMemory(create=True, size=64)\n"
        "    pipe.send(segment.name)\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    spawn = multiprocessing.get_context('spawn')\n"
        "    lock = spawn.Lock()\n"
        "    ours, theirs = spawn.Pipe()\n"
        "    spawn.Process(target=child, args=(theirs,)).start()\n"
        "    names = [ours.recv(), 'sem.' + lock._semlock.name.lstrip('/')]\n"
        "    files = [pathlib.Path('/dev/shm') / name for name in names]\n"
        "    print(*(file.exists() for file in files))\n"
        "    kill_descendants()\n"
        "    release_shared_memory(within_s=30.0)\n"
        "    print(*(file.exists() for file in files), flush=True)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["True True", "False False"]
