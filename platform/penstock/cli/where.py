"""Where a command looks: at the platform on this machine or at a cluster, and how the cluster's side is found.

The core knows no cluster client. The package that has one offers a `ClusterReader` as the entry point `reader` of the
group `penstock.clusters`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import click

from penstock.errors import UserError

if TYPE_CHECKING:
    from penstock.api.manifest import Manifest
    from penstock.control.status import ModelStatus
    from penstock.cost.receipts import RequestReceipt
    from penstock.cost.report import CostReport
    from penstock.local.state import StateDirectory
    from penstock.scaling.decision import Decision

CLUSTER_GROUP = "penstock.clusters"
"""Entry point group with one name, `reader`: something that makes a `ClusterReader`."""
CLUSTER_ONLY = "penstock.cluster-only"
"""Key in a click context's `meta`: whether no local platform is looked for, as in the kubectl plugin."""


@dataclass(frozen=True, slots=True)
class ClusterFlags:
    """What the user said of the cluster."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None
    """The context's own when None."""
    all_namespaces: bool = False

    @property
    def given(self) -> bool:
        """Whether the user said anything."""
        return self != ClusterFlags()


@dataclass(frozen=True, slots=True)
class ClusterModels:
    """Models as a cluster has them."""

    at_s: float
    """Unix seconds."""
    models: tuple[ModelStatus, ...]
    live: bool
    """False when the operator could not be asked: then figures are those of the objects' statuses."""
    remarks: tuple[str, ...] = ()
    """What a person should know of where this comes from."""


@dataclass(frozen=True, slots=True)
class ClusterDecisions:
    """Decisions about one model, oldest first, or what its status says when nobody could be asked for them."""

    decisions: tuple[Decision, ...]
    model: ModelStatus
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterCost:
    """The ledger's report, or what statuses say when the ledger could not be asked."""

    report: CostReport | None
    models: tuple[ModelStatus, ...] = ()
    """Only without a report."""
    remarks: tuple[str, ...] = ()


class ClusterReader(Protocol):
    """Reads a cluster with the user's own credentials.

    Every method raises a `UserError` for what the user can mend: no access, no such namespace, no such model.
    """

    def models(self) -> ClusterModels:
        """Return the Models of the chosen namespace, or of all."""
        ...

    def decisions(self, model: str, count: int) -> ClusterDecisions:
        """Return the last decisions about a model."""
        ...

    def cost(self, since_s: float | None) -> ClusterCost:
        """Return what was spent since a moment (Unix seconds), or since the ledger began."""
        ...

    def receipt(self, request: str) -> RequestReceipt | None:
        """Return one request's receipt; None when the ledger has none."""
        ...

    def manifest(self, names: Sequence[str]) -> Manifest:
        """Return the named Models, and all AcceleratorClasses of the cluster."""
        ...


class Where(Enum):
    """Which of the two."""

    LOCAL = "local"
    CLUSTER = "cluster"
    NOWHERE = "nowhere"


def decide(*, flags: bool, state: bool, runs: bool, kubeconfig: bool, remains: bool) -> Where:
    """Return where to look.

    Args:
        flags: The user said something of a cluster.
        state: The user named a state directory.
        runs: A platform runs in the state directory, or was killed there.
        kubeconfig: There is access to a cluster.
        remains: A platform ran in the state directory, and left its books.
    """
    if flags:
        return Where.CLUSTER
    if state or runs:
        return Where.LOCAL
    if kubeconfig:
        return Where.CLUSTER
    return Where.LOCAL if remains else Where.NOWHERE


def cluster_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a cluster; it takes them as one argument, `cluster`."""

    @click.option("--kubeconfig", type=click.Path(path_type=Path, dir_okay=False), help="Kubeconfig of a cluster.")
    @click.option("--context", "kube_context", metavar="NAME", help="Context in the kubeconfig; its current one.")
    @click.option("-n", "--namespace", metavar="NAME", help="Namespace in the cluster; the context's own.")
    @click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces of the cluster.")
    @functools.wraps(function)
    def wrapped(
        *args: Any,
        kubeconfig: Path | None,
        kube_context: str | None,
        namespace: str | None,
        all_namespaces: bool,
        **others: Any,
    ) -> Any:
        if namespace is not None and all_namespaces:
            raise UserError(f"--namespace {namespace} and --all-namespaces exclude each other: give one of them")
        return function(*args, cluster=ClusterFlags(kubeconfig, kube_context, namespace, all_namespaces), **others)

    return wrapped


def chosen_cluster(flags: ClusterFlags, state: Path | None) -> ClusterReader | None:
    """Return the cluster to read, or None for the platform on this machine.

    Raises:
        UserError: the flags contradict each other, neither is there, or the cluster's side is not installed.
    """
    from penstock.local.state import STATE_VARIABLE, StateDirectory

    if click.get_current_context().meta.get(CLUSTER_ONLY):
        return open_cluster(flags)
    if flags.given and state is not None:
        raise UserError(f"--state {state} is a platform on this machine, and the other options name a cluster: choose")
    directory = StateDirectory.resolve(state)
    where = decide(
        flags=flags.given,
        state=state is not None or bool(os.environ.get(STATE_VARIABLE)),
        runs=directory.is_locked() or directory.platform.exists(),
        kubeconfig=has_kubeconfig(),
        remains=_has_books(directory),
    )
    if where is Where.NOWHERE:
        raise UserError(
            f"nothing to look at: no platform runs or ran in {directory.root}, and there is no kubeconfig. Start a "
            "platform with `penstock up` or name its folder with --state, or name a cluster with --kubeconfig"
        )
    return open_cluster(flags) if where is Where.CLUSTER else None


def open_cluster(flags: ClusterFlags) -> ClusterReader:
    """Return the reader of a cluster; nothing is asked yet.

    Raises:
        UserError: the cluster's side is not installed, or there is no way to reach a cluster.
    """
    entries = entry_points(group=CLUSTER_GROUP, name="reader")
    try:
        make = next(iter(entries)).load()
    except (StopIteration, ModuleNotFoundError) as error:
        raise UserError(
            "clusters cannot be read by this installation, it has no Kubernetes client: pip install 'penstock[cluster]'"
        ) from error
    return cast("ClusterReader", make(flags))


def has_kubeconfig() -> bool:
    """Say whether `kubectl` would find a cluster."""
    return bool(
        os.environ.get("KUBECONFIG")
        or "KUBERNETES_SERVICE_HOST" in os.environ
        or (Path.home() / ".kube" / "config").is_file()
    )


def _has_books(directory: StateDirectory) -> bool:
    return directory.ledger.exists() or directory.decisions.exists()
