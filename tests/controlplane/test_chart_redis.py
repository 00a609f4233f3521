"""The bundled Redis, started by the chart's own command with a real redis-server."""

import shutil
import subprocess
import time

import pytest

from tests.support.chart import Helm, workloads
from tests.support.control_plane import free_ports

pytestmark = [pytest.mark.controlplane, pytest.mark.redis]

PASSWORD = "a-password-of-the-test"


def ask(port, *words, password=PASSWORD):
    command = ["redis-cli", "-p", str(port), *words]
    environment = {"PATH": "/usr/bin:/bin", **({"REDISCLI_AUTH": password} if password else {})}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture
def port(tmp_path):
    """Port of a Redis that runs as the pod's container would, with a folder of the test for its volume."""
    assert shutil.which("redis-server"), "install redis-server"
    (port,) = free_ports(1)
    (pod,) = [pod for name, pod in workloads(Helm(tmp_path / "helm").render()) if name == "Deployment/penstock-redis"]
    (container,) = pod["spec"]["containers"]
    command = [part.replace("6379", str(port)).replace("/data", str(tmp_path)) for part in container["command"]]
    process = subprocess.Popen(
        command, env={"PATH": "/usr/bin:/bin", "REDIS_PASSWORD": PASSWORD}, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 10
    while ask(port, "ping") != "PONG":
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield port
    process.terminate()
    process.wait(10)


def test_it_wants_the_password_and_refuses_rather_than_forgets(port):
    assert "NOAUTH" in ask(port, "get", "x", password=None)
    assert ask(port, "set", "x", "1") == "OK"
    settings = ask(port, "config", "get", "maxmemory*").split()
    assert settings[settings.index("maxmemory-policy") + 1] == "noeviction"
    assert int(settings[settings.index("maxmemory") + 1]) == 384 * 1024**2
    assert ask(port, "config", "get", "appendonly").split()[1] == "no"


def test_no_list_of_processes_shows_the_password(port):
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert PASSWORD not in shown
