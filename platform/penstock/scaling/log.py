"""The decision log: one JSON object a line, bounded in size, quiet stretches compacted."""

from __future__ import annotations

from os import SEEK_END
from pathlib import Path

import msgspec

from penstock.scaling.decision import Decision, Direction


class DecisionLog:
    """Appends decisions to a file. One writer; readers may read at any time.

    A decision is written when it moves the target, or differs from the last one written of its model in its ruling or
    in the replicas of a phase; else once every `quiet_s`. At `max_bytes` the file is renamed to `<name>.1`, replacing
    the older one.
    """

    def __init__(self, path: Path, *, quiet_s: float = 30.0, max_bytes: int = 8 * 1024 * 1024) -> None:
        self._path = path
        self._quiet_s = quiet_s
        self._max_bytes = max_bytes
        self._written: dict[str, Decision] = {}

    def append(self, decision: Decision) -> bool:
        """Write the decision if it says something new.

        Returns:
            True when it was written.

        Raises:
            OSError: the file cannot be written.
        """
        last = self._written.get(decision.model)
        if last is not None and not self._says_more(decision, last):
            return False
        line = msgspec.json.encode(decision) + b"\n"
        if not self._written and _ends_torn(self._path):
            line = b"\n" + line
        self._rotate(len(line))
        with self._path.open("ab") as file:
            file.write(line)
        self._written[decision.model] = decision
        return True

    def _says_more(self, decision: Decision, last: Decision) -> bool:
        return (
            decision.direction is not Direction.HOLD
            or decision.at_s - last.at_s >= self._quiet_s
            or _essence(decision) != _essence(last)
        )

    def _rotate(self, more_bytes: int) -> None:
        try:
            size_bytes = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size_bytes + more_bytes > self._max_bytes:
            self._path.replace(_older(self._path))


def last_decisions(path: Path, model: str, n: int) -> list[Decision]:
    """Return the last `n` decisions about a model, oldest first. A torn last line is passed over."""
    return [decision for decision in _read(path) if decision.model == model][-n:] if n > 0 else []


def known_models(path: Path) -> list[str]:
    """Return the names of all models with a decision in the log, sorted."""
    return sorted({decision.model for decision in _read(path)})


def _essence(decision: Decision) -> tuple[object, ...]:
    return (
        decision.direction,
        decision.target_after,
        decision.ruling,
        decision.ready,
        decision.starting,
        decision.draining,
    )


def _ends_torn(path: Path) -> bool:
    """Return whether a writer died within a line, which must not swallow the next."""
    try:
        with path.open("rb") as file:
            if file.seek(0, SEEK_END) == 0:
                return False
            file.seek(-1, SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _read(path: Path) -> list[Decision]:
    decisions: list[Decision] = []
    decoder = msgspec.json.Decoder(Decision)
    for file in (_older(path), path):
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            continue
        for line in data.splitlines():
            try:
                decisions.append(decoder.decode(line))
            except msgspec.DecodeError:
                continue
    return decisions
