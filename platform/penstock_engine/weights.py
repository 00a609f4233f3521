"""Where weights are: turns a Model's URI into what an engine can load, or says what is missing and what to do.

| URI | becomes |
|---|---|
| `file:///folder` or `/folder` | the folder |
| `pvc://claim/path` | `/mnt/penstock/pvc/claim/path`, where the operator mounts the claim |
| `hf://organisation/name@revision` | a hub id and its revision, for the engine to download or find in its cache |
| `s3://bucket/path`, `gs://bucket/path` | streamed by the engine with the Run:ai streamer, else downloaded |
| `tiny://llama`, `tiny://llama-embed` | a folder with random weights that is made here: for demos and tests |
"""

from __future__ import annotations

import os
import re
import tempfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from penstock_engine.errors import WeightsError
from penstock_engine.tiny_model import write_tiny_model

PVC_ROOT = Path("/mnt/penstock/pvc")
"""Claims are mounted below, each in a folder of its name."""

SCHEMES = ("file", "hf", "pvc", "s3", "gs", "oci", "tiny")
_TINY = ("llama", "llama-embed")
_OBJECT_STORES = {"s3": "s3fs", "gs": "gcsfs"}
_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_CLAIM = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt", "*.gguf")


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Weights in the engine's own terms."""

    model: str
    """A local folder, a hub id, or an object-store URI that the engine streams."""
    revision: str | None = None
    """Of a hub id: branch, tag or commit."""
    load_format: str | None = None
    """How the engine must load them, when its default would not do."""


def resolve(uri: str, *, pvc_root: Path = PVC_ROOT, downloads: Path | None = None) -> Weights:
    """Find the weights of a model.

    Args:
        uri: As in the module's table; a path without a scheme is a local folder, and anything else a hub id.
        pvc_root: Folder in which claims are mounted.
        downloads: Folder for weights that must be fetched before loading; a temporary one when None.

    Raises:
        WeightsError: the URI is malformed, or nothing loadable is there.
    """
    scheme, rest = split_uri(uri)
    if scheme == "file":
        return Weights(model=str(_checked_folder(Path(rest), uri)))
    if scheme == "pvc":
        claim, _, path = rest.partition("/")
        mount = pvc_root / claim
        if not mount.is_dir():
            raise WeightsError(
                f"weights {uri}: the claim {claim!r} is not mounted at {mount}; "
                "check that the PersistentVolumeClaim exists in the Model's namespace and is bound"
            )
        return Weights(model=str(_checked_folder(mount / path, uri)))
    if scheme == "hf":
        name, _, revision = rest.partition("@")
        return Weights(model=name, revision=revision or None)
    if scheme == "tiny":
        # A folder of its own: two replicas on one machine may be making theirs at the same time.
        folder = Path(tempfile.mkdtemp(prefix="penstock-tiny-", dir=downloads))
        return Weights(model=str(write_tiny_model(folder, embed=rest == "llama-embed")))
    return _from_object_store(uri, scheme, downloads)


def resolve_adapter(uri: str, *, pvc_root: Path = PVC_ROOT) -> str:
    """Find a LoRA adapter: a local folder that holds `adapter_config.json`, or a hub id.

    Raises:
        WeightsError: the URI is malformed or of a scheme that adapters cannot have, or the folder is none.
    """
    scheme, rest = split_uri(uri)
    if scheme == "hf":
        return rest.partition("@")[0]
    if scheme not in {"file", "pvc"}:
        raise WeightsError(f"adapter {uri}: adapters load from file://, pvc:// or hf://, not {scheme}://")
    folder = Path(rest) if scheme == "file" else pvc_root / rest
    if not (folder / "adapter_config.json").is_file():
        raise WeightsError(f"adapter {uri}: no adapter_config.json in {folder}; give the folder that PEFT wrote")
    return str(folder)


def split_uri(uri: str) -> tuple[str, str]:
    """Split a weights URI into its scheme and what follows, without looking whether anything is there.

    Raises:
        WeightsError: the scheme is unknown or not supported, or the rest cannot be what that scheme needs.
    """
    if "://" not in uri:
        return ("file", uri) if uri.startswith(("/", "./", "../", "~")) else ("hf", _checked_hub_id(uri, uri))
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES if scheme != "oci")
        raise WeightsError(f"weights {uri}: unknown scheme {parts.scheme}://; use one of {known}")
    if parts.scheme == "oci":
        raise WeightsError(
            f"weights {uri}: images cannot be loaded from inside a replica; mount the image as a volume "
            "(podTemplate) and give its folder as file://, or copy it to a claim and use pvc://"
        )
    rest = uri.split("://", 1)[1]
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise WeightsError(
                f"weights {uri}: a file URI needs an absolute path and three slashes, as in file:///models/x"
            )
        return "file", unquote(parts.path)
    if parts.scheme == "hf":
        return "hf", _checked_hub_id(rest, uri)
    if parts.scheme == "tiny" and rest not in _TINY:
        raise WeightsError(f"weights {uri}: expected {' or '.join(f'tiny://{name}' for name in _TINY)}")
    if not parts.netloc:
        raise WeightsError(f"weights {uri}: the name after {parts.scheme}:// is missing")
    if parts.scheme == "pvc" and (not _CLAIM.fullmatch(parts.netloc) or ".." in parts.path.split("/")):
        raise WeightsError(f"weights {uri}: expected pvc://claim/path, with a claim's name and no '..' in the path")
    return parts.scheme, rest


def _checked_hub_id(text: str, uri: str) -> str:
    name, at, revision = text.partition("@")
    if not _HUB_ID.fullmatch(name) or (at and not revision):
        raise WeightsError(f"weights {uri}: expected hf://organisation/name or hf://organisation/name@revision")
    return text


def _checked_folder(folder: Path, uri: str) -> Path:
    folder = folder.expanduser()
    if not folder.exists():
        raise WeightsError(f"weights {uri}: there is no {folder}; check the path, and that it is mounted on every node")
    if folder.is_file():
        if folder.suffix == ".gguf":
            return folder
        raise WeightsError(f"weights {uri}: {folder} is a file; give the folder that holds config.json")
    if not (folder / "config.json").is_file() and not (folder / "params.json").is_file():
        raise WeightsError(f"weights {uri}: no config.json in {folder}; give the folder of a Hugging Face model")
    if not any(next(folder.glob(pattern), None) for pattern in _WEIGHT_FILES):
        raise WeightsError(f"weights {uri}: no *.safetensors in {folder}; the download may be incomplete")
    return folder


def _from_object_store(uri: str, scheme: str, downloads: Path | None) -> Weights:
    if find_spec("runai_model_streamer") is not None:
        return Weights(model=uri, load_format="runai_streamer")
    driver = _OBJECT_STORES[scheme]
    if find_spec("fsspec") is None or find_spec(driver) is None:
        raise WeightsError(
            f"weights {uri}: reading {scheme}:// needs runai-model-streamer (streams, fast) or {driver} (downloads) "
            "in the engine's image; install one, or copy the weights to a claim and use pvc://"
        )
    import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415 - only replicas that download need it

    root = downloads or Path(os.environ.get("VLLM_CACHE_ROOT") or tempfile.gettempdir()) / "penstock-weights"
    folder = root / re.sub(r"[^\w.-]+", "-", uri.split("://", 1)[1].strip("/"))
    store, path = fsspec.core.url_to_fs(uri)
    try:
        store.get(path.rstrip("/") + "/", str(folder) + "/", recursive=True)
    except OSError as error:
        raise WeightsError(
            f"weights {uri}: cannot download: {error}; check the bucket, path and credentials"
        ) from error
    return Weights(model=str(_checked_folder(folder, uri)))
