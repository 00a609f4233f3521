"""A real redis-server on a port of 127.0.0.1 that a test may pause, kill and start again."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PASSWORD = "pass word/@"


class RedisServer:
    """One server; its data lies in memory unless `persistent`."""

    def __init__(self, directory: Path, *, persistent: bool = False, options: tuple[str, ...] = ()) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "redis-server is not installed: apt-get install redis-server"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://:pass%20word%2F%40@127.0.0.1:{self.port}/0"
        self._command = [
            program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
            "--appendonly", "yes" if persistent else "no", "--dir", str(directory), "--requirepass", PASSWORD,
            *options,
        ]  # fmt: skip
        self._log = directory / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline_s = time.monotonic() + 20
        while self.command("PING") != b"+PONG\r\n":
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline_s, "redis-server does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it where it stands; connections stay open and silent."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> bytes:
        """Send one command over a connection of its own; return the raw answer, empty when there is none."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(_encode("AUTH", PASSWORD))
                connection.recv(1024)
                connection.sendall(_encode(*words))
                return connection.recv(65536)
        except OSError:
            return b""


@contextlib.contextmanager
def redis_server(directory: Path, *, persistent: bool = False, options: tuple[str, ...] = ()) -> Iterator[RedisServer]:
    """Run a server for as long as the context lasts."""
    server = RedisServer(directory, persistent=persistent, options=options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _encode(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n", *(f"${len(word.encode())}\r\n{word}\r\n" for word in words)]
    return "".join(parts).encode()
