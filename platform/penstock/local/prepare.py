"""From a Model to applications that Serve can be given, or to the obstacle in the way, with its remedy.

What is looked at is cheap (a folder's existence, arithmetic), so that it is done anew at every tick: an obstacle that
the user removes is gone a second later. Only generated weights take time, and are made beside the loop.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.manifest import Manifest
from penstock.api.model import Model, Task
from penstock.api.source import parse_source
from penstock.catalog import accelerator_classes, engine_limits, weights_uri
from penstock.control.conditions import Obstacle
from penstock.control.fit import unknown_class
from penstock.control.prepared import Prepared
from penstock.engines.registry import UnknownEngineError, get_engine
from penstock.local.fit import Machine, misfit
from penstock.local.state import StateDirectory
from penstock.serve.applications import compile_application

_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
_COMPLETE = "complete"
"""Marks a folder of weights whose making was not cut short."""


@dataclass
class Preparer:
    """Prepares models; owns the weights that the platform makes itself."""

    state: StateDirectory
    machine: Machine
    scratch: Path
    _making: dict[Path, asyncio.Task[str | None]] = field(default_factory=dict)
    _fits: dict[str, tuple[Manifest, Obstacle | None]] = field(default_factory=dict)
    """By model, the manifest it was checked in and what came of it."""

    def prepare(self, model: Model, manifest: Manifest) -> Prepared:
        """Return the model's applications, or what is in the way of them."""
        classes = {item.name: item for item in (*accelerator_classes(), *manifest.accelerator_classes)}
        try:
            weights = self._weights(model)
            self._check_fit(model, manifest, classes)
            engine = get_engine(model.spec.engine.name.lower())
            applications = tuple(
                compile_application(
                    model,
                    placement,
                    classes[placement.accelerator_class],
                    engine,
                    weights,
                    scratch=str(self.scratch),
                )
                for placement in model.placements
            )
        except _ObstacleError as error:
            return Prepared(model=model, obstacle=error.obstacle)
        except UnknownEngineError as error:
            return Prepared(
                model=model, obstacle=Obstacle(reason="UnknownEngine", message=f"spec.engine.name: {error}")
            )
        except ValueError as error:
            return Prepared(model=model, obstacle=Obstacle(reason="Invalid", message=str(error)))
        except OSError as error:
            text = f"spec.source: {error.filename} cannot be looked at: {error.strerror}; check the path and its rights"
            return Prepared(model=model, obstacle=Obstacle(reason="WeightsMissing", message=text))
        return Prepared(model=model, applications=applications)

    async def close(self) -> None:
        """End what is being made."""
        for task in self._making.values():
            task.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)

    def _check_fit(self, model: Model, manifest: Manifest, classes: Mapping[str, AcceleratorClass]) -> None:
        checked = self._fits.get(model.name)
        if checked is None or checked[0] is not manifest:
            # Remedies are found by trying many changes: too much for every tick, and the answer stays the same.
            checked = self._fits[model.name] = (manifest, self._misfit(model, classes))
        if checked[1] is not None:
            raise _ObstacleError(checked[1])

    def _misfit(self, model: Model, classes: Mapping[str, AcceleratorClass]) -> Obstacle | None:
        engine_limits(model.spec.engine.args)  # refuses what fields are for, even where nobody knows the model's shape
        for placement in model.placements:
            if (obstacle := unknown_class(placement, classes, "add one to the files")) is not None:
                return obstacle
            if (obstacle := misfit(model, placement, classes, self.machine)) is not None:
                return obstacle
        return None

    def _weights(self, model: Model) -> str:
        try:
            uri = weights_uri(model)
        except LookupError as error:
            raise _ObstacleError(Obstacle(reason="UnknownPreset", message=f"spec.preset: {error}")) from None
        source = parse_source(uri)
        if source.scheme == "tiny":
            return self._tiny(model.spec.task)
        if source.scheme == "file":
            _check_folder(Path(source.location))
            return source.location
        if source.scheme == "pvc":
            text = f"spec.source: {uri} is a claim, and there are none on one machine; give the folder as file://"
            raise _ObstacleError(Obstacle(reason="Unsupported", message=text))
        return uri

    def _tiny(self, task: Task) -> str:
        folder = self.state.weights / ("tiny-embed" if task is Task.EMBED else "tiny-llama")
        if (folder / _COMPLETE).exists():
            return str(folder)
        making = self._making.get(folder)
        if making is not None and making.done() and (reason := making.result()) is not None:
            text = f"the tiny model could not be made: {reason}"
            raise _ObstacleError(Obstacle(reason="WeightsMissing", message=text))
        if making is None:
            self._making[folder] = asyncio.create_task(_make_tiny(folder, embed=task is Task.EMBED))
        raise _ObstacleError(Obstacle(reason="MakingWeights", message="the tiny model is being made", passing=True))


class _ObstacleError(Exception):
    """Carries an obstacle out of the steps of preparing."""

    def __init__(self, obstacle: Obstacle) -> None:
        self.obstacle = obstacle
        super().__init__(obstacle.message)


async def _make_tiny(folder: Path, *, embed: bool) -> str | None:
    """Make a tiny model; return why it failed, or None."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "penstock",
        "tiny-model",
        str(folder),
        *(["--embed"] if embed else []),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        return output.decode(errors="replace").strip()[-500:]
    (folder / _COMPLETE).touch()
    return None


def _check_folder(folder: Path) -> None:
    if folder.is_file() and folder.suffix == ".gguf":
        return
    if not folder.exists():
        problem = f"there is no {folder}; check the path"
    elif not folder.is_dir():
        problem = f"{folder} is a file; give the folder that holds config.json"
    elif not any((folder / name).is_file() for name in ("config.json", "params.json")):
        problem = f"there is no config.json in {folder}; give the folder of a Hugging Face model"
    elif not any(next(folder.glob(pattern), None) for pattern in _WEIGHT_FILES):
        problem = f"there are no *.safetensors in {folder}; the download may be incomplete"
    else:
        return
    raise _ObstacleError(Obstacle(reason="WeightsMissing", message=f"spec.source: {problem}"))
