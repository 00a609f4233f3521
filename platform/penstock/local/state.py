"""The state directory of a local platform: where each file lives, who owns it, and which of it outlives the platform.

`status.json` and `snapshot.json` are replaced whole by a rename, so that a reader never sees half a file. The lock is
held by the running operator and released by the kernel however it ends: it, not a pid, says whether a platform runs.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from penstock.errors import UserError
from penstock.local.procfs import ProcessIdentity

STATE_VARIABLE = "PENSTOCK_STATE"
DEFAULT_NAME = "default"
_LOCK_ATTEMPTS = 3


class Child(msgspec.Struct, frozen=True):
    """A process that the operator started, so that `penstock down` can end it when the operator no longer can."""

    role: str
    """`operator`, `ray-head` or `gateway`."""
    process: ProcessIdentity


class PlatformRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`platform.json`: who runs the platform and where it listens."""

    pid: int
    """The operator's."""
    started_s: float
    """Unix seconds."""
    data_host: str
    data_port: int
    admin_host: str
    admin_port: int
    metrics_port: int
    """Loopback port of the operator's own Prometheus page."""
    dashboard_port: int
    """Loopback port of Ray's dashboard, which answers Serve's REST API."""
    gcs_port: int
    temp_dir: str
    """Ray's session and every temporary file of the platform's processes; removed by `penstock down`."""
    paths: tuple[str, ...]
    """The manifest files and folders given to `penstock up`."""
    drain_s: float = 30.0
    """How long streams may go on once the platform is told to end."""
    children: tuple[Child, ...] = ()


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """Paths inside one platform's state directory."""

    root: Path

    @classmethod
    def resolve(cls, given: str | Path | None = None) -> Self:
        """Return the state directory: the one given, else `$PENSTOCK_STATE`, else the user's default."""
        chosen = given or os.environ.get(STATE_VARIABLE)
        if chosen:
            return cls(Path(chosen).expanduser().absolute())
        home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return cls(Path(home).expanduser() / "penstock" / DEFAULT_NAME)

    @property
    def platform(self) -> Path:
        """`PlatformRecord`; present from start to `down`."""
        return self.root / "platform.json"

    @property
    def status(self) -> Path:
        """`penstock.control.status.PlatformStatus`, rewritten each second."""
        return self.root / "status.json"

    @property
    def snapshot(self) -> Path:
        """`RoutingSnapshot` for gateways."""
        return self.root / "snapshot.json"

    @property
    def pepper(self) -> Path:
        """The key that tenant keys are hashed under: the file's bytes as they are."""
        return self.root / "pepper"

    @property
    def ray_token(self) -> Path:
        """The bearer token of this platform's Ray."""
        return self.root / "ray-token"

    @property
    def decisions(self) -> Path:
        """Scaling decisions, one JSON object a line; kept after `down`."""
        return self.root / "decisions.jsonl"

    @property
    def events(self) -> Path:
        """`penstock.control.status.TimelineEvent`, one JSON object a line; kept after `down`."""
        return self.root / "events.jsonl"

    @property
    def spool(self) -> Path:
        """A folder of `*.jsonl` with `penstock.cost.records.SpoolLine`, each file owned by one writer."""
        return self.root / "spool"

    @property
    def ledger(self) -> Path:
        """SQLite ledger; kept after `down`."""
        return self.root / "ledger.sqlite"

    @property
    def logs(self) -> Path:
        """A folder of `*.log`; kept after `down`."""
        return self.root / "logs"

    @property
    def weights(self) -> Path:
        """Folders of weights that the platform made itself (`tiny://` sources)."""
        return self.root / "weights"

    @property
    def lock(self) -> Path:
        """Locked by the running operator."""
        return self.root / "lock"

    def prepare(self) -> None:
        """Make the folders and, once, the pepper and Ray's token."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.spool, self.logs, self.weights):
            folder.mkdir(exist_ok=True)
        for secret in (self.pepper, self.ray_token):
            if not secret.exists():
                # Hexadecimal without a line end: the same bytes to readers that strip and to readers that do not.
                write_atomically(secret, secrets.token_hex(32).encode(), mode=0o600)

    def acquire(self) -> int:
        """Take the lock and return its descriptor; keep it open for as long as the platform runs.

        Raises:
            UserError: another operator holds it.
        """
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for attempt in range(_LOCK_ATTEMPTS):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if attempt + 1 < _LOCK_ATTEMPTS:
                    time.sleep(0.02)  # `is_locked` of a concurrent command holds it for microseconds
            else:
                return descriptor
        os.close(descriptor)
        raise self._already_runs()

    def check_free(self) -> None:
        """Check that nothing runs here.

        Raises:
            UserError: another operator holds the lock.
        """
        if self.is_locked():
            raise self._already_runs()

    def _already_runs(self) -> UserError:
        return UserError(
            f"a platform already runs in {self.root}; see it with `penstock status`, end it with `penstock down`, "
            f"or give another folder with --state"
        )

    def is_locked(self) -> bool:
        """Say whether an operator runs here now."""
        try:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def read_platform(self) -> PlatformRecord | None:
        """Return who ran here last, or None when `down` has been or nothing ever ran."""
        try:
            data = self.platform.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(data, type=PlatformRecord)
        except msgspec.DecodeError as error:
            raise UserError(
                f"{self.platform}: {error}; if another version of penstock wrote it, end its platform and remove it"
            ) from error

    def write_platform(self, record: PlatformRecord) -> None:
        """Replace `platform.json`."""
        write_atomically(self.platform, msgspec.json.encode(record))


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file by a rename, so that readers see the old bytes or the new ones."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
