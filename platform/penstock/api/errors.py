"""What is wrong with a set of resources, told place by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in one place."""

    file: Path
    line: int
    """1-based; 0 when the file could not be read at all."""
    field: str
    """Path of the field as written in YAML, for example `spec.scaling.minReplicas`; empty for the whole document."""
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class ManifestError(ValueError):
    """Files that do not hold valid resources, with every mistake found in them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))
