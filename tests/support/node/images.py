"""Images of a node: built by `scripts/images` on a base from debootstrap, brought into containerd without a registry.

What was built is remembered by the hash of all that goes into it. Between the builder and containerd lies an OCI
layout, so that after a change of the source only the small last layer is copied, compressed and imported.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock import __version__
from tests.support import binaries
from tests.support.node.programs import PAUSE_IMAGE

ROOT = Path(__file__).parents[3]
PAUSE_SOURCE = Path(__file__).with_name("pause")
REDIS_SOURCE = Path(__file__).with_name("redis")
REDIS_IMAGE = "localhost/penstock-redis:7"
BASE_IMAGE = "localhost/penstock-base:bookworm"
"""What `scripts/images` makes by debootstrap."""
MEMFD_RACE = "sealing memfd copy: Device or resource busy"
"""What Debian 12's buildah says when it loses a race against itself; the next try goes on where it was."""
BUILD = ("buildah", "build", "--quiet", "--isolation=chroot")
SHARED_INPUTS = (".dockerignore", "scripts/images", "pyproject.toml")
SOURCES = (
    "platform/penstock",
    "platform/penstock_engine",
    "platform/penstock_kube",
    "platform/penstock_usage",
    "operator/penstock_operator",
    "gateway/penstock_gateway",
    "loadtest/penstock_loadtest",
)


@dataclass(frozen=True)
class Image:
    """One image of this repository."""

    name: str
    """As `scripts/images` takes it."""
    dockerfile: str
    reference: str
    """As a pod names it."""
    pins: str
    """What it installs."""
    sources: tuple[str, ...] = SOURCES
    """What of the repository it runs: a change of the rest makes no other image."""

    def key(self) -> str:
        """Return the hash of everything that goes into the image."""
        digest = hashlib.sha256()
        for path in _files([self.dockerfile, self.pins, *SHARED_INPUTS, *self.sources]):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


IMAGES = (
    Image("gateway", "gateway/Dockerfile", f"penstock-gateway:{__version__}", "requirements/gateway.txt"),
    Image("operator", "operator/Dockerfile", f"penstock-operator:{__version__}", "requirements/operator.txt"),
    Image("loadtest", "loadtest/Dockerfile", f"penstock-loadtest:{__version__}", "requirements/loadtest.txt"),
    Image(
        "engine",
        "platform/Dockerfile",
        f"penstock-engine:{__version__}",
        "requirements/engine-cpu.txt",
        sources=("platform/penstock_engine", "platform/penstock/errors.py"),
    ),
)


@dataclass(frozen=True)
class Layout:
    """A folder in the OCI image layout that holds one image."""

    folder: Path
    reference: str

    @property
    def qualified(self) -> str:
        """The image's whole name, as containerd keeps it."""
        host = "" if self.reference.startswith("localhost/") else "docker.io/library/"
        return host + self.reference

    def blob(self, digest: str) -> Path:
        """Return where a blob is."""
        return self.folder / "blobs" / digest.replace(":", "/")

    def manifest(self) -> Mapping[str, Any]:
        """Return the descriptor of the image's manifest."""
        index = json.loads((self.folder / "index.json").read_text())
        return dict(index["manifests"][-1])

    def digests(self) -> list[str]:
        """Return the digests of every blob of the image, the manifest first."""
        manifest = self.manifest()["digest"]
        content = json.loads(self.blob(manifest).read_text())
        return [manifest, content["config"]["digest"], *(layer["digest"] for layer in content["layers"])]

    def fill(self) -> None:
        """Copy the image out of the builder's store; layers that are here already are neither copied nor compressed.

        The builder looks for a layer by the digest of its plain content, and writes it compressed, under another. So
        it finds an empty file under the first, and what it took for the layer is put right in the manifest.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        known_file = self.folder / "layers.json"
        known = json.loads(known_file.read_text()) if known_file.exists() else {}
        stand_ins = [self.blob(plain) for plain in known]
        for stand_in in stand_ins:
            stand_in.touch()
        (self.folder / "index.json").unlink(missing_ok=True)
        _run(["buildah", "push", "--quiet", self.reference, f"oci:{self.folder}:{self.reference}"])
        manifest = json.loads(self.blob(self.digests()[0]).read_text())
        plain = json.loads(self.blob(manifest["config"]["digest"]).read_text())["rootfs"]["diff_ids"]
        for at, digest in enumerate(plain):
            if manifest["layers"][at]["digest"] != digest:
                known[digest] = manifest["layers"][at]
            manifest["layers"][at] = known[digest]
        self._replace_manifest(json.dumps(manifest).encode())
        known_file.write_text(json.dumps({digest: known[digest] for digest in plain}))
        kept = {self.blob(digest) for digest in self.digests()}
        for blob in (self.folder / "blobs" / "sha256").iterdir():
            if blob not in kept:
                blob.unlink()

    def _replace_manifest(self, content: bytes) -> None:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blob(digest).write_bytes(content)
        descriptor = {**self.manifest(), "digest": digest, "size": len(content)}
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))

    def write_archive(self, sink: io.RawIOBase | Any, present: set[str]) -> None:
        """Write an OCI archive without the blobs that its reader has already."""
        named = {**self.manifest(), "annotations": {"io.containerd.image.name": self.qualified}}
        index = {"schemaVersion": 2, "manifests": [named]}
        with tarfile.open(fileobj=sink, mode="w|", bufsize=1 << 20) as archive:
            _add(archive, "oci-layout", (self.folder / "oci-layout").read_bytes())
            _add(archive, "index.json", json.dumps(index).encode())
            for digest in dict.fromkeys(self.digests()):
                if digest not in present:
                    archive.add(self.blob(digest), arcname=f"blobs/{digest.replace(':', '/')}")


def cache() -> Path:
    """Return the folder that outlives a node, with the images in it."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "penstock" / "images"


def ready(images: Sequence[Image] = IMAGES) -> list[Layout]:
    """Return the layouts of these images, of Redis and of the pause image, building what changed since it was built.

    Raises:
        RuntimeError: a build failed; the message has the end of its output.
    """
    return [*(_built(image) for image in images), _redis(), _pause()]


def bring_in(layouts: Iterable[Layout], ctr: Sequence[str]) -> None:
    """Import images into containerd.

    Args:
        layouts: the images.
        ctr: command line of containerd's client for the namespace that kubelet uses.
    """
    for layout in layouts:
        listed = _run([*ctr, "images", "ls", f"name=={layout.qualified}"])
        if layout.manifest()["digest"] in listed:
            continue
        present = set(_run([*ctr, "content", "ls", "--quiet"]).split())
        with tempfile.TemporaryFile() as errors:
            # One platform, as `buildah build` made it; unpacked now, not when the first pod waits for it.
            command = [*ctr, "images", "import", "-"]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=errors, stderr=errors) as importer:
                assert importer.stdin is not None
                layout.write_archive(importer.stdin, present)
                importer.stdin.close()
            if importer.returncode != 0:
                errors.seek(0)
                raise RuntimeError(f"containerd took no {layout.reference}: {errors.read().decode()[-4000:]}")


def _built(image: Image) -> Layout:
    layout = Layout(cache() / image.name, image.reference)
    built, key = layout.folder / "key", image.key()
    if not built.exists() or built.read_text() != key:
        settings = {"BUILDER": "buildah", "BASE": "debootstrap"}
        if bundle := os.environ.get("SSL_CERT_FILE"):
            settings["CA_BUNDLE"] = bundle
        # At low priority: whoever measures something on this machine goes first.
        command = ["nice", "-n", "10", "scripts/images", image.name]
        try:
            _run(command, settings)
        except RuntimeError as error:
            if MEMFD_RACE not in str(error):
                raise
            _run(command, settings)
        layout.fill()
        built.write_text(key)
    return layout


def _redis() -> Layout:
    def build() -> None:
        file = ["--file", str(REDIS_SOURCE / "Dockerfile"), "--build-arg", f"BASE={BASE_IMAGE}", "--pull=never"]
        _run([*BUILD, *file, "--tag", REDIS_IMAGE, str(REDIS_SOURCE)])

    return _ours("redis", REDIS_IMAGE, REDIS_SOURCE, build)


def _pause() -> Layout:
    def build() -> None:
        with tempfile.TemporaryDirectory() as context:
            go = [binaries.go("the pause image"), "build", "-trimpath", "-ldflags=-s -w"]
            _run([*go, "-o", f"{context}/pause", "."], {"CGO_ENABLED": "0"}, folder=PAUSE_SOURCE)
            _run([*BUILD, "--file", str(PAUSE_SOURCE / "Dockerfile"), "--tag", PAUSE_IMAGE, context])

    return _ours("pause", PAUSE_IMAGE, PAUSE_SOURCE, build)


def _ours(name: str, reference: str, source: Path, build: Callable[[], None]) -> Layout:
    """Return an image of the node itself, built when its source changed."""
    layout = Layout(cache() / name, reference)
    built = layout.folder / "key"
    key = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(source.iterdir()))).hexdigest()
    if not built.exists() or built.read_text() != key:
        build()
        layout.fill()
        built.write_text(key)
    return layout


def _files(names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        top = ROOT / name
        if top.is_file():
            yield top
        for path in sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _run(command: Sequence[str], settings: Mapping[str, str] | None = None, folder: Path = ROOT) -> str:
    environment = {**os.environ, **(settings or {})}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout
