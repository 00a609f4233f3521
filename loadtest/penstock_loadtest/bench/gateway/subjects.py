"""The routers that are compared, each with the configuration an operator who cares for speed would give it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import msgspec

from penstock.routing.keys import hash_key
from penstock.routing.snapshot import CompiledTenant, Replica, RoutingSnapshot, ServedModel, encode_snapshot
from penstock_loadtest.bench.gateway.traffic import TrafficPlan, key_of, model_name, tenant_name
from penstock_loadtest.bench.machine import package_version
from penstock_loadtest.bench.processes import Process, free_port
from penstock_loadtest.errors import BenchError, MissingSubjectError

VLLM_ROUTER_VERSION = "0.1.17"
_START_TIMEOUT_S = 40.0
_PEPPER = b"penstock-bench-pepper-0123456789"


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What a subject needs to know of its surroundings."""

    folder: Path
    """Its own, empty: configuration, logs and spool go there."""
    core: int
    upstream_ports: tuple[int, ...]
    traffic: TrafficPlan


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """A subject that serves."""

    port: int
    process: Process | None
    """None for the upstream itself."""
    spool: Path | None = None
    """Where it writes usage records, when it meters."""


class Subject(Protocol):
    """One router."""

    name: str

    def prepare(self, build: Path) -> str:
        """Find or install it under `build`; return its version.

        Raises:
            MissingSubjectError: it is not here and cannot be installed; the message holds the remedy.
        """

    def start(self, site: Site) -> Started:
        """Start it in front of the upstream and wait until it serves."""


class Direct:
    """No router: what the upstream and the load generator can do by themselves."""

    name = "direct"

    def prepare(self, build: Path) -> str:
        """Return an empty version: there is nothing to install."""
        del build
        return ""

    def start(self, site: Site) -> Started:
        """Return the upstream's first port."""
        return Started(port=site.upstream_ports[0], process=None)


class Nginx:
    """nginx as a plain reverse proxy: one worker, kept connections, no buffering of answers, no log."""

    name = "nginx"

    def prepare(self, build: Path) -> str:
        """Find nginx on PATH or in /usr/sbin."""
        del build
        found = _nginx()
        if found is None:
            raise MissingSubjectError(
                "nginx is not installed; install it (Debian: apt-get install nginx-light) or leave it out (--subjects)"
            )
        printed = subprocess.run([found, "-v"], capture_output=True, text=True, check=False).stderr
        match = re.search(r"nginx/(\S+)", printed)
        return match.group(1) if match else "unknown"

    def start(self, site: Site) -> Started:
        """Write the configuration and start the server in the foreground."""
        port = free_port()
        servers = "\n".join(f"server 127.0.0.1:{p};" for p in site.upstream_ports)
        config = site.folder / "nginx.conf"
        config.write_text(_NGINX_CONFIG.format(port=port, servers=servers, folder=site.folder))
        argv = [_nginx() or "nginx", "-p", str(site.folder), "-c", str(config), "-e", str(site.folder / "error.log")]
        process = Process(self.name, argv, log=site.folder / "nginx.log", core=site.core)
        return _ready(process, port)


class VllmRouter:
    """PyPI's vllm-router, in a virtual environment of its own.

    Its default policy is `cache_aware`; `round_robin` is the fastest of those that answered on one core.
    """

    name = "vllm-router"

    def __init__(self) -> None:
        self._program = Path()

    def prepare(self, build: Path) -> str:
        """Install the pinned release with uv when it is not there yet."""
        venv = build / f"vllm-router-{VLLM_ROUTER_VERSION}"
        self._program = venv / "bin" / "vllm-router"
        if not self._program.exists():
            uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
            if uv is None:
                raise MissingSubjectError(
                    "vllm-router needs uv to be installed (https://docs.astral.sh/uv/); put uv on PATH, "
                    "or leave the router out with --subjects"
                )
            pins = _pins_file()
            what = ["-r", str(pins)] if pins else [f"vllm-router=={VLLM_ROUTER_VERSION}"]
            _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)])
            _run([uv, "pip", "install", "--quiet", "--python", str(venv), *what])
        return VLLM_ROUTER_VERSION

    def start(self, site: Site) -> Started:
        """Start it with every upstream port as a worker and retries off."""
        port = free_port()
        argv = [str(self._program), "--host", "127.0.0.1", "--port", str(port)]
        argv += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
        argv += ["--policy", "round_robin", "--log-level", "error", "--max-concurrent-requests", "4096"]
        argv += ["--worker-urls", *(f"http://127.0.0.1:{p}" for p in site.upstream_ports)]
        return _ready(Process(self.name, argv, log=site.folder / "vllm-router.log", core=site.core), port)


class Penstock:
    """The gateway with key check, model routing, metering to the spool and metrics on, one process."""

    name = "penstock"

    def prepare(self, build: Path) -> str:
        """Return the installed version."""
        del build
        return package_version("penstock")

    def start(self, site: Site) -> Started:
        """Write a snapshot of all tenants and models, and start one gateway."""
        snapshot, pepper, spool = site.folder / "snapshot.json", site.folder / "pepper", site.folder / "spool"
        spool.mkdir()
        pepper.write_bytes(_PEPPER)
        pepper.chmod(0o600)
        snapshot.write_bytes(encode_snapshot(make_snapshot(site.traffic, site.upstream_ports)))
        port = free_port()
        env = {
            "PENSTOCK_GATEWAY_DATA_HOST": "127.0.0.1",
            "PENSTOCK_GATEWAY_DATA_PORT": str(port),
            "PENSTOCK_GATEWAY_ADMIN_HOST": "127.0.0.1",
            "PENSTOCK_GATEWAY_ADMIN_PORT": str(free_port()),
            "PENSTOCK_GATEWAY_SNAPSHOT_FILE": str(snapshot),
            "PENSTOCK_GATEWAY_PEPPER_FILE": str(pepper),
            "PENSTOCK_GATEWAY_SPOOL_DIRECTORY": str(spool),
        }
        argv = [sys.executable, "-m", "penstock_gateway"]
        process = Process(self.name, argv, log=site.folder / "penstock.log", core=site.core, env=env)
        return msgspec.structs.replace(_ready(process, port), spool=spool)


def make_snapshot(traffic: TrafficPlan, upstream_ports: tuple[int, ...]) -> RoutingSnapshot:
    """Give every tenant its key, and every model two replicas among the upstream's ports."""
    models = [model_name(number) for number in range(traffic.models)]
    return RoutingSnapshot(
        version=1,
        models=tuple(ServedModel(name=name) for name in models),
        replicas=tuple(
            Replica(
                id=f"{name}#{which}",
                model=name,
                variant=f"{name}--bench",
                address="127.0.0.1",
                port=upstream_ports[(number * 2 + which) % len(upstream_ports)],
            )
            for number, name in enumerate(models)
            for which in range(2)
        ),
        tenants=tuple(
            CompiledTenant(name=tenant_name(number), key_hashes=(hash_key(_PEPPER, key_of(number)),))
            for number in range(traffic.keys)
        ),
    )


SUBJECTS: dict[str, type[Subject]] = {s.name: s for s in (Nginx, VllmRouter, Penstock)}
"""By name, in the order in which each round measures them."""


def _ready(process: Process, port: int) -> Started:
    try:
        process.wait_for_port(port, _START_TIMEOUT_S)
    except BaseException:
        process.stop()
        raise
    return Started(port=port, process=process)


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _pins_file() -> Path | None:
    """Return requirements/bench.txt of a source checkout; an installed wheel has none."""
    path = Path(__file__).parents[4] / "requirements" / "bench.txt"
    return path if path.exists() else None


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(argv[:3])} failed: {done.stderr.strip()[-600:]}")


_NGINX_CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_body_buffer_size 64k;
  keepalive_requests 100000000;
  tcp_nodelay on;
  upstream engines {{
    {servers}
    keepalive 1024;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://engines;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""
