"""What a worker pod does before it is stopped: lets its replicas finish, then ends Ray. The kubelet runs it.

Nobody tells Serve that a pod is about to go, and Ray ends its replicas at the first signal. The operator sees the pod's
deletion and has gateways leave its replicas; this waits for the requests that they have already.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

from penstock.engines.base import Engine
from penstock.engines.registry import get_engine

FIRST_PORT, LAST_PORT = 30000, 31000
"""Where Serve's replicas listen (`RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT` and `_MAX_`, at their defaults)."""
HEARD_S = 5.0
"""How long gateways may take to hear that the pod's replicas get nothing new."""
_POLL_S = 1.0
_ANSWER_S = 5.0
_QUIET_LOOKS = 2
_LISTEN = "0A"

Fetch = Callable[[str], bytes]
"""Returns the body of a URL; raises `OSError` without an answer of status 200."""


def replica_ports(tables: Iterable[str]) -> list[int]:
    """Return the ports that replicas listen on, from the text of /proc/net/tcp and tcp6."""
    ports = set()
    for line in (line.split() for table in tables for line in table.splitlines()[1:]):
        port = int(line[1].rpartition(":")[2], 16)
        if line[3] == _LISTEN and FIRST_PORT <= port <= LAST_PORT:
            ports.add(port)
    return sorted(ports)


def is_busy(port: int, engine: Engine, fetch: Fetch) -> bool:
    """Say whether a replica has requests, or may have: one that Serve drains tells nothing until its port closes."""
    try:
        routes = json.loads(fetch(f"http://127.0.0.1:{port}/-/routes"))
        loads = [engine.parse_load(fetch(f"http://127.0.0.1:{port}{route}{engine.metrics_path}")) for route in routes]
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return not isinstance(error.reason, ConnectionRefusedError)
    except (OSError, ValueError):
        return True
    return any(load.running + load.waiting for load in loads)


def wait_idle(
    ports: Callable[[], list[int]],
    busy: Callable[[int], bool],
    within_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until no replica has a request; at once where there is none. Return False when time was up first."""
    if not ports():
        return True
    began_s, quiet = clock(), 0
    while clock() - began_s < within_s:
        quiet = 0 if any(busy(port) for port in ports()) else quiet + 1
        if quiet >= _QUIET_LOOKS and clock() - began_s >= HEARD_S:
            return True
        sleep(_POLL_S)
    return False


def main(arguments: list[str]) -> int:
    """Wait, then end Ray on this node; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m penstock_engine.prestop", description=__doc__)
    parser.add_argument("--engine", default="vllm", help="the engine that replicas run")
    parser.add_argument("--within", type=float, required=True, metavar="SECONDS", help="longest time to wait")
    given = parser.parse_args(arguments)
    engine = get_engine(given.engine)
    wait_idle(_ports_here, lambda port: is_busy(port, engine, _fetch), given.within)
    # The shell that KubeRay starts Ray from is the pod's first process and hears no SIGTERM: without this a pod that
    # has nothing left to do would hold its accelerators for the whole grace period.
    return subprocess.run(["ray", "stop", "--grace-period", "10"], check=False).returncode


def _ports_here() -> list[int]:
    tables = (Path("/proc/net") / name for name in ("tcp", "tcp6"))
    return replica_ports(table.read_text() for table in tables if table.exists())


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_ANSWER_S) as answer:  # noqa: S310 - http on loopback, from our own words
        body: bytes = answer.read()
    return body


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
