"""A real control plane: etcd and kube-apiserver on free loopback ports, no root needed.

Each part can be stopped, started, killed and frozen. Everything it writes is below one folder, logs included, and all
of it is gone afterwards.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

ADMIN = "admin"

Find = Callable[[str], Path]
"""Returns where a program is; raises with the remedy when it is nowhere."""


@dataclass
class Part:
    """One program of the control plane."""

    name: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program; readiness is the control plane's to wait for."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def stop(self, *, within_s: float = 15.0, kill: bool = False) -> None:
        """End the program, by SIGTERM or, when it must go at once or does not go, by SIGKILL."""
        if self.process is None:
            return
        self.resume()
        if not kill:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(within_s)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(within_s)
        self.process = None

    def pause(self) -> None:
        """Freeze the program: its connections stay open and nothing answers."""
        if self.process is None:
            raise RuntimeError(f"{self.name} does not run")
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen program go on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def tail(self) -> str:
        """Return the end of the program's log."""
        return f"--- {self.log}\n{self.log.read_text(errors='replace')[-4000:]}" if self.log.exists() else ""


@dataclass
class ControlPlane:
    """A running etcd and kube-apiserver."""

    folder: Path
    etcd: Part
    apiserver: Part
    etcd_url: str
    url: str
    tokens: Mapping[str, str] = field(repr=False)
    """Token of each user; `admin` may do everything, the others nothing until a role is bound to them."""

    @property
    def port(self) -> int:
        """Port of the API server, on 127.0.0.1."""
        return int(self.url.rsplit(":", 1)[1])

    @property
    def ca_file(self) -> Path:
        """Certificate that the API server shows."""
        return self.folder / "tls.crt"

    def client(self, user: str = ADMIN, *, timeout_s: float = 30.0) -> httpx2.Client:
        """Return a plain HTTP client that is logged in as a user."""
        return httpx2.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {self.tokens[user]}"},
            verify=ssl.create_default_context(cafile=str(self.ca_file)),
            timeout=timeout_s,
            trust_env=False,
        )

    def call(
        self, method: str, path: str, body: Any = None, *, user: str = ADMIN, kind: str = "application/json"
    ) -> Any:
        """Make one call and return its JSON; an error status raises with the server's message."""
        content = None if body is None else json.dumps(body)
        with self.client(user) as client:
            for _ in range(10):
                answer = client.request(method, path, content=content, headers={"content-type": kind})
                if answer.status_code != 429:  # the storage of a definition that was just changed starts anew
                    break
                time.sleep(float(answer.headers.get("retry-after", "1")))
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def kubeconfig(self, user: str = ADMIN, *, port: int | None = None, token: str | None = None) -> Path:
        """Write a kubeconfig of a user and return its path; `port` leads through a proxy on 127.0.0.1."""
        server = self.url if port is None else f"https://127.0.0.1:{port}"
        path = self.folder / f"{user}-{port or 'direct'}.kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "clusters": [
                {"name": "test", "cluster": {"server": server, "certificate-authority": str(self.ca_file)}},
            ],
            "users": [{"name": user, "user": {"token": token or self.tokens[user]}}],
        }
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path

    def grant(self, user: str, *rules: Mapping[str, Any]) -> None:
        """Let a user do what the RBAC rules say, in every namespace."""
        group = "rbac.authorization.k8s.io"
        name = f"test-{user}"
        role = {"kind": "ClusterRole", "rules": list(rules)}
        binding = {
            "kind": "ClusterRoleBinding",
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        }
        for plural, body in (("clusterroles", role), ("clusterrolebindings", binding)):
            self.apply(f"/apis/{group}/v1/{plural}", {"apiVersion": f"{group}/v1", "metadata": {"name": name}, **body})

    def apply(self, collection: str, body: Mapping[str, Any], *, dry_run: bool = False) -> Any:
        """Server-side apply one object below the path of its collection, as `kubectl apply --server-side` does."""
        query = "fieldManager=test&force=true" + ("&dryRun=All" if dry_run else "")
        path = f"{collection}/{body['metadata']['name']}?{query}"
        return self.call("PATCH", path, body, kind="application/apply-patch+yaml")

    def service_account_token(self, namespace: str, name: str) -> str:
        """Return a token of a service account, signed by this API server as a pod's token is."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        return str(self.call("POST", path, body)["status"]["token"])

    def compact(self) -> None:
        """Make etcd forget all history before now, so that older resource versions expire."""
        with httpx2.Client(base_url=self.etcd_url, timeout=10.0, trust_env=False) as client:
            key = base64.b64encode(b"/").decode()
            revision = client.post("/v3/kv/range", json={"key": key}).json()["header"]["revision"]
            client.post("/v3/kv/compaction", json={"revision": revision, "physical": True}).raise_for_status()

    def wait_until_ready(self, within_s: float = 60.0) -> None:
        """Wait until the API server says that it is ready."""
        deadline = time.monotonic() + within_s
        with self.client(timeout_s=5.0) as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(httpx2.HTTPError):
                    if client.get("/readyz").status_code == 200:
                        return
                for part in (self.etcd, self.apiserver):
                    if part.process is not None and part.process.poll() is not None:
                        raise RuntimeError(f"{part.name} ended with {part.process.returncode}:\n{part.tail()}")
                time.sleep(0.1)
        raise RuntimeError(f"the control plane is not ready:\n{self.etcd.tail()}\n{self.apiserver.tail()}")

    def restart_apiserver(self, *, kill: bool = False) -> None:
        """End the API server, start it on the same port, and wait until it is ready."""
        self.apiserver.stop(kill=kill)
        self.apiserver.start()
        self.wait_until_ready()


@contextlib.contextmanager
def control_plane(
    find: Find, *, users: Sequence[str] = (), apiserver_flags: Sequence[str] = ()
) -> Iterator[ControlPlane]:
    """Run a control plane; end all of it on the way out.

    Args:
        find: tells where `etcd` and `kube-apiserver` are.
        users: names beside `admin` that get a token.
        apiserver_flags: added to the command line of kube-apiserver.
    """
    folder = Path(tempfile.mkdtemp(prefix="penstock-control-plane-"))
    tokens = {user: secrets.token_hex(16) for user in (ADMIN, *users)}
    etcd_port, peer_port, api_port = free_ports(3)
    _write_credentials(folder, tokens)
    etcd_url = f"http://127.0.0.1:{etcd_port}"
    etcd = Part(
        "etcd", _etcd_command(find("etcd"), folder, etcd_url, f"http://127.0.0.1:{peer_port}"), folder / "etcd.log"
    )
    command = [*_apiserver_command(find("kube-apiserver"), folder, etcd_url, api_port), *apiserver_flags]
    apiserver = Part("kube-apiserver", command, folder / "kube-apiserver.log")
    plane = ControlPlane(folder, etcd, apiserver, etcd_url, f"https://127.0.0.1:{api_port}", tokens)
    try:
        etcd.start()
        apiserver.start()
        plane.wait_until_ready()
        yield plane
    finally:
        apiserver.stop(kill=True)
        etcd.stop(kill=True)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nothing listens on."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _write_credentials(folder: Path, tokens: Mapping[str, str]) -> None:
    lines = [f"{token},{user},{user}{',system:masters' if user == ADMIN else ''}" for user, token in tokens.items()]
    (folder / "tokens.csv").write_text("\n".join(lines) + "\n")
    if shutil.which("openssl") is None:
        raise RuntimeError("openssl is not on PATH, and the control plane's keys are made with it: install it")
    for command in (
        ["openssl", "genrsa", "-out", str(folder / "sa.key"), "2048"],
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=penstock-test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")),
        ],
    ):
        subprocess.run(command, check=True, capture_output=True, cwd=folder)


def _etcd_command(program: Path, folder: Path, client_url: str, peer_url: str) -> list[str]:
    return [
        str(program),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _apiserver_command(program: Path, folder: Path, etcd_url: str, port: int) -> list[str]:
    return [
        str(program),
        f"--etcd-servers={etcd_url}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder}",
        f"--tls-cert-file={folder / 'tls.crt'}",
        f"--tls-private-key-file={folder / 'tls.key'}",
        f"--service-account-key-file={folder / 'sa.key'}",
        f"--service-account-signing-key-file={folder / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=Node,RBAC",
        "--kubelet-preferred-address-types=InternalIP",
        "--shutdown-delay-duration=0s",
    ]
