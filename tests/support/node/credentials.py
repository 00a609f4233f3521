"""Who may talk to a node's API server: one certificate, and a token and kubeconfig for each user."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.node.init import ADDRESS

NODE_NAME = "node0"
API_PORT = 6443
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
USERS: Mapping[str, tuple[str, ...]] = {
    "admin": ("system:masters",),
    "system:kube-controller-manager": (),
    "system:kube-scheduler": (),
    f"system:node:{NODE_NAME}": ("system:nodes",),
    "system:kube-proxy": (),
    "system:coredns": (),
    "kuberay-operator": ("system:masters",),
}
"""Groups of each user."""


@dataclass(frozen=True)
class Credentials:
    """Files of one node, all below one folder."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """What the API server shows; it signs itself, so it is the CA too."""
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        """Private key of the certificate."""
        return self.folder / "tls.key"

    @property
    def service_account_key(self) -> Path:
        """RSA key that signs service account tokens."""
        return self.folder / "sa.key"

    @property
    def tokens(self) -> Path:
        """Token of each user, as `--token-auth-file` takes it."""
        return self.folder / "tokens.csv"

    def kubeconfig(self, user: str = "admin") -> Path:
        """Return the kubeconfig of a user in USERS."""
        return self.folder / f"{user.replace(':', '-')}.kubeconfig"


def create(folder: Path) -> Credentials:
    """Write new credentials into a folder."""
    made = Credentials(folder)
    names = [f"IP:{address}" for address in (ADDRESS, API_SERVICE, "127.0.0.1")]
    names += [f"DNS:kubernetes{suffix}" for suffix in ("", ".default", ".default.svc", ".default.svc.cluster.local")]
    certificate = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    named = ("-subj", "/CN=penstock-node", "-addext", f"subjectAltName={','.join(names)}")
    for command in (
        ["openssl", "genrsa", "-out", str(made.service_account_key), "2048"],
        [*certificate, *named, "-keyout", str(made.key), "-out", str(made.certificate)],
    ):
        subprocess.run(command, check=True, capture_output=True)
    tokens = {user: secrets.token_hex(16) for user in USERS}
    lines = [f'{tokens[user]},{user},{user},"{",".join(groups)}"' for user, groups in USERS.items()]
    made.tokens.write_text("\n".join(lines) + "\n")
    for user, token in tokens.items():
        made.kubeconfig(user).write_text(json.dumps(_kubeconfig(made, user, token)))
        made.kubeconfig(user).chmod(0o600)
    return made


def _kubeconfig(credentials: Credentials, user: str, token: str) -> Mapping[str, object]:
    cluster = {"server": f"https://{ADDRESS}:{API_PORT}", "certificate-authority": str(credentials.certificate)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "node",
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": user}}],
        "clusters": [{"name": "node", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
    }
