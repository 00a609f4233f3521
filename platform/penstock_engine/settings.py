"""What a replica is told: the `args` of its application in Serve's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from penstock_engine.errors import SettingsError
from penstock_engine.weights import split_uri

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `args` of the application in Serve's configuration. A change of any of them replaces the replicas."""

    argv: Annotated[list[str], msgspec.Meta(min_length=1)]
    """`vllm serve` flags, `--model` among them: a folder, a hub id or a URI as in `penstock_engine.weights`."""
    revision: str = ""
    """Of the Model. Nothing reads it: Serve rolls out a change of arguments, and of nothing else."""
    hang_after_s: Seconds = 60.0
    """Time without an answer after which the engine counts as hung."""
    exit_grace_s: Seconds = 0.5
    """Time that streams get to send their error event before a replica with a dead engine ends."""


def parse_settings(args: Mapping[str, Any]) -> EngineSettings:
    """Check an application's arguments without starting or importing an engine.

    Raises:
        SettingsError: a field is unknown, missing or of the wrong type, or `--model` is missing.
        WeightsError: the weights' URI is malformed.
    """
    try:
        settings = msgspec.convert(dict(args), EngineSettings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"application arguments: {error}") from error
    model = _flag(settings.argv, "--model")
    if not model:
        raise SettingsError("application arguments: argv has no --model; give the weights' folder, hub id or URI")
    split_uri(model)
    return settings


def _flag(argv: list[str], name: str) -> str | None:
    for index, word in enumerate(argv):
        if word == name and index + 1 < len(argv):
            return argv[index + 1]
        if word.startswith(name + "="):
            return word.partition("=")[2]
    return None
