"""Children are ended with all they left, known by more than a pid, and do not outlive who started them."""

import os
import select
import signal
import subprocess
import sys

import msgspec
import pytest

from penstock.local import procfs
from penstock.local.processes import end_session, start_process

pytestmark = pytest.mark.anyio

GRANDCHILD = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
print("up", flush=True)
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
PARENT = """
import os, pathlib, sys, time
from penstock.local.processes import start_process
folder = pathlib.Path(sys.argv[1])
child = start_process(
    "c", [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(600)"],
    env=os.environ, log=folder / "log", cwd=folder,
)
while "up" not in child.log.read_text():
    time.sleep(0.01)
print(child.popen.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(code: str):
        process = start_process(
            "child", [sys.executable, "-c", code], env=os.environ, log=tmp_path / "log", cwd=tmp_path
        )
        started.append(process)
        while "up" not in process.log.read_text() and process.exit_code() is None:
            os.sched_yield()
        return process

    yield begin
    for process in started:
        for pid in procfs.session_members(process.identity):
            os.kill(pid, signal.SIGKILL)
        process.popen.wait()


async def test_a_session_ends_with_its_grandchildren(start):
    process = start(GRANDCHILD)
    members = procfs.session_members(process.identity)
    assert len(members) == 2
    assert await end_session(process.identity, grace_s=5, popen=process.popen)
    assert procfs.session_members(process.identity) == []
    assert [pid for pid in members if procfs.identify(pid)] == []


async def test_who_ignores_the_request_is_killed(start):
    process = start(STUBBORN)
    assert not await end_session(process.identity, grace_s=0.1, popen=process.popen)
    assert process.exit_code() == -signal.SIGKILL


async def test_orphans_of_a_dead_leader_are_found_and_ended(start):
    process = start(GRANDCHILD)
    os.kill(process.popen.pid, signal.SIGKILL)
    process.popen.wait()
    assert len(procfs.session_members(process.identity)) == 1
    await end_session(process.identity, grace_s=5)
    assert procfs.session_members(process.identity) == []


async def test_a_pid_that_was_given_to_another_is_left_alone(start):
    process = start(GRANDCHILD)
    before = msgspec.structs.replace(process.identity, start_ticks=process.identity.start_ticks - 1)
    assert not procfs.is_alive(before)
    assert procfs.session_members(before) == []
    assert await end_session(before, grace_s=0)
    assert process.exit_code() is None
    other_boot = msgspec.structs.replace(process.identity, boot_id="another")
    assert procfs.session_members(other_boot) == []


def test_a_child_gets_sigterm_when_its_parent_is_killed(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    watch = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert select.select([watch], [], [], 10)[0], "the child outlived its parent"
    os.close(watch)


def test_a_program_that_is_not_there_is_named_in_the_log(tmp_path):
    process = start_process("thing", ["no-such-program"], env=os.environ, log=tmp_path / "log", cwd=tmp_path)
    assert process.popen.wait() == 1
    assert "cannot run no-such-program" in process.log_tail()


def test_a_process_s_birth_is_close_to_now():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine, its = procfs.born_s(os.getpid()), procfs.born_s(child.pid)
    child.communicate(b"\n")
    assert mine is not None
    assert its is not None
    assert mine < its
