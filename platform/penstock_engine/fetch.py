"""`python -m penstock_engine.fetch hf://ORGANISATION/NAME`: brings weights into the cache before a replica needs them.

It downloads what an engine would, into the hub's own cache (`HF_HOME`), so that a replica which starts later finds all
of it there. What an earlier try left is gone on with. While it runs, `GET /progress` on its port says how far it is.

Exit codes: 0 all there; 1 something passing, worth another try; 3 trying again is pointless. The reason stands on
stderr and, in a pod, in the container's termination message.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from penstock_engine.errors import WeightsError
from penstock_engine.weights import split_uri

PORT: Final = 8080
TRY_AGAIN: Final = 1
POINTLESS: Final = 3
_AT_ONCE: Final = 4
_TERMINATION_LOG: Final = Path("/dev/termination-log")
_WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_NEVER: Final = (".onnx", ".msgpack", ".h5", ".ot", ".tflite", ".mlmodel")
"""Weights that no engine of ours loads."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /progress`."""

    uri: str
    done_bytes: int
    total_bytes: int | None
    """None until the hub has said what there is."""


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a hub repository."""

    path: str
    size_bytes: int


def wanted_files(files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Return what an engine loads of a repository: one format of weights, the safest there is, and all small files.

    Folders below the root hold the same weights in other forms, as `original/` does.
    """
    loadable = [file for file in files if not file.path.endswith(_NEVER)]
    weights = [file for file in loadable if file.path.endswith(_WEIGHTS) and "/" not in file.path]
    # Mistral's own form, `consolidated`, may stand beside that of transformers, as large again.
    weights = [file for file in weights if not file.path.startswith("consolidated")] or weights
    best = next((end for end in _WEIGHTS if any(file.path.endswith(end) for file in weights)), "")
    return tuple(
        file for file in loadable if not file.path.endswith(_WEIGHTS) or (file in weights and file.path.endswith(best))
    )


@dataclass
class Download:
    """One repository on its way into the cache."""

    name: str
    revision: str | None
    uri: str
    commit: str = ""
    files: tuple[RemoteFile, ...] | None = None
    _done: set[str] = field(default_factory=set)

    def look_up(self) -> None:
        """Ask the hub what there is."""
        from huggingface_hub import HfApi  # noqa: PLC0415 - comes with the engine extras

        info = HfApi().model_info(self.name, revision=self.revision, files_metadata=True)
        files = [RemoteFile(path=item.rfilename, size_bytes=item.size or 0) for item in info.siblings or ()]
        self.commit, self.files = info.sha or self.revision or "main", wanted_files(files)

    def run(self) -> None:
        """Download what is missing."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(self._one, sorted(self.files or (), key=lambda file: -file.size_bytes)):
                pass

    def _one(self, file: RemoteFile) -> None:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - comes with the engine extras

        hf_hub_download(self.name, file.path, revision=self.commit)
        self._done.add(file.path)

    def note_branch(self) -> None:
        """Have the cache remember which commit the revision was, as an engine without the hub would look it up."""
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - comes with the engine extras

        if self.files:
            smallest = min(self.files, key=lambda file: file.size_bytes)
            hf_hub_download(self.name, smallest.path, revision=self.revision)

    def progress(self) -> Progress:
        """Return how far it is, counting what is written of files that are not complete."""
        if self.files is None:
            return Progress(uri=self.uri, done_bytes=0, total_bytes=None)
        total = sum(file.size_bytes for file in self.files)
        whole = sum(file.size_bytes for file in self.files if file.path in self._done)
        return Progress(uri=self.uri, done_bytes=min(total, whole + self._begun_bytes()), total_bytes=total)

    def _begun_bytes(self) -> int:
        from huggingface_hub.constants import HF_HUB_CACHE  # noqa: PLC0415 - comes with the engine extras

        blobs = Path(HF_HUB_CACHE) / f"models--{self.name.replace('/', '--')}" / "blobs"
        sizes = 0
        for path in blobs.glob("*.incomplete"):
            with contextlib.suppress(FileNotFoundError):  # it has just become whole
                sizes += path.stat().st_blocks * 512  # some ways of downloading write a file of full length at once
        return sizes


def fetch(uri: str, *, port: int = PORT) -> int:
    """Bring weights into the cache; return the exit code, after a failure with its reason on stderr.

    Args:
        uri: `hf://ORGANISATION/NAME`, with `@REVISION` to pin one.
        port: where progress is told, on every address; 0 for any free one.
    """
    try:
        scheme, rest = split_uri(uri)
    except WeightsError as error:
        return _fail(str(error), POINTLESS)
    if scheme != "hf":
        return _fail(f"weights {uri}: only hf:// is fetched ahead; engines read {scheme}:// where it is", POINTLESS)
    name, _, revision = rest.partition("@")
    download = Download(name, revision or None, uri)
    with _told(download, port):
        try:
            download.look_up()
            download.run()
            download.note_branch()
        except _hub_errors() as error:
            return _fail(*_explained(uri, error))
        except OSError as error:
            return _fail(f"weights {uri}: cannot be written or downloaded: {error}", TRY_AGAIN)
    done = download.progress()
    sys.stderr.write(f"weights {uri}: {done.done_bytes} bytes are in the cache\n")
    return 0


def _hub_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415 - comes with engine extras

    return (HfHubHTTPError, HFValidationError)


def _explained(uri: str, error: Exception) -> tuple[str, int]:
    """Return what to say of an error of the hub, and the exit code."""
    from huggingface_hub.errors import (  # noqa: PLC0415 - comes with the engine extras
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, GatedRepoError):
        return f"weights {uri}: gated: accept its terms and give a token in spec.sourceSecretRef ({first})", POINTLESS
    if isinstance(error, RepositoryNotFoundError):
        text = "there is no such repository, or it is private: check the name, or give a token in spec.sourceSecretRef"
        return f"weights {uri}: {text} ({first})", POINTLESS
    if isinstance(error, RevisionNotFoundError):
        return f"weights {uri}: there is no such revision: check what follows @ ({first})", POINTLESS
    if isinstance(error, HFValidationError):
        return f"weights {uri}: {first}", POINTLESS
    status = getattr(getattr(error, "response", None), "status_code", 0)
    pointless = 400 <= status < 500 and status not in {408, 429}
    return f"weights {uri}: the hub answered {status}: {first}", POINTLESS if pointless else TRY_AGAIN


def _fail(reason: str, code: int) -> int:
    sys.stderr.write(f"Error: {reason}\n")
    with contextlib.suppress(OSError):  # outside a pod there is no such file
        if _TERMINATION_LOG.exists():
            _TERMINATION_LOG.write_text(reason)
    return code


@contextlib.contextmanager
def _told(download: Download, port: int) -> Iterator[int]:
    """Answer `GET /progress` meanwhile; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/progress"
            body = msgspec.json.encode(download.progress()) if found else b"{}"
            self.send_response(200 if found else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            """Write no line for each question."""

    server = ThreadingHTTPServer(("0.0.0.0", port), Handler)  # noqa: S104 - the operator asks from another pod
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@click.command("fetch")
@click.argument("uri")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Where progress is told.")
def command(uri: str, port: int) -> None:
    """Bring the weights at URI into the hub's cache."""
    sys.exit(fetch(uri, port=port))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    command.main(args=None if arguments is None else list(arguments), prog_name="python -m penstock_engine.fetch")


if __name__ == "__main__":
    main()
