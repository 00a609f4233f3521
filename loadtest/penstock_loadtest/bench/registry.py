"""The benchmarks there are. Another is added with one line here; its module is imported when it runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import msgspec

from penstock_loadtest.bench.records import Outcome
from penstock_loadtest.errors import LoadSettingsError


class BenchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every benchmark is asked."""

    rounds: int = 5
    seconds: float = 3.0
    """Length of each timed phase."""
    subjects: tuple[str, ...] = ()
    """Only these; empty for all."""
    build_folder: Path = Path("build/bench")
    """Where programs to compare with are installed."""


Runner = Callable[[BenchSettings, Callable[[str], None]], Outcome]
"""Runs a benchmark; the second argument is told what is being done."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One benchmark."""

    summary: str
    runner: str
    """`module:function` of a Runner."""
    rounds: int
    """How many make a result that can be trusted."""


BENCHMARKS: dict[str, Entry] = {
    "gateway": Entry(
        summary="nginx, vllm-router and Penstock in front of one mock engine",
        runner="penstock_loadtest.bench.gateway.compare:run",
        rounds=5,
    ),
    "operator": Entry(
        summary="1,000 Models in 50 namespaces on one control plane: reconciled, idle, edited",
        runner="penstock_loadtest.bench.operator.compare:run",
        rounds=3,
    ),
    "pick": Entry(
        summary="the pick of replicas on the Mooncake conversation trace: cache hits, balance, and what a pick costs",
        runner="penstock_loadtest.bench.pick.compare:run",
        rounds=5,
    ),
}


def load_runner(name: str) -> Runner:
    """Import and return a benchmark's runner.

    Raises:
        LoadSettingsError: there is no benchmark of that name, or a package that it needs is not installed.
    """
    entry = BENCHMARKS.get(name)
    if entry is None:
        raise LoadSettingsError(f"benchmark {name!r} is unknown; there are: {', '.join(BENCHMARKS)}")
    module, _, function = entry.runner.partition(":")
    try:
        return cast("Runner", getattr(importlib.import_module(module), function))
    except ModuleNotFoundError as error:
        raise LoadSettingsError(
            f"benchmark {name!r} needs {error.name}: install penstock[gateway,operator,loadtest]"
        ) from error


def choose_benchmarks(names: Sequence[str]) -> list[str]:
    """Return the named benchmarks, or all when none is named.

    Raises:
        LoadSettingsError: there is no benchmark of a given name.
    """
    for name in names:
        load_runner(name)
    return list(names) or list(BENCHMARKS)
