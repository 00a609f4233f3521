"""What all pools of a process share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from penstock.api.accelerator_class import AcceleratorClass
from penstock.cost.records import SpoolLine
from penstock.cost.report import CostReport
from penstock_kube.client import KubeClient
from penstock_operator.model.prepare import Preparations
from penstock_operator.pool.loads import Loads
from penstock_operator.pool.mirrored import Mirrored
from penstock_operator.route.names import NameBook
from penstock_operator.settings import Settings
from penstock_operator.typed import Typed, TypedWorld
from penstock_operator.world import World


class Classes:
    """All AcceleratorClasses by name, in one mapping for as long as none of them changes.

    Args:
        typed: Those that the cluster has.
        builtin: Those that stand in where the cluster has none of their name.
    """

    def __init__(self, typed: Typed[AcceleratorClass], builtin: Iterable[AcceleratorClass] = ()) -> None:
        self._typed = typed
        self._builtin = {item.name: item for item in builtin}
        self._known: Mapping[str, AcceleratorClass] | None = None
        for reflector in typed.mirror.reflectors:
            reflector.add_handler(lambda _: self._forget())

    def all(self) -> Mapping[str, AcceleratorClass]:
        """Return them."""
        if self._known is None:
            self._known = self._all()
        return self._known

    def _all(self) -> dict[str, AcceleratorClass]:
        return self._builtin | {item.name: item for item in self._typed.all()}

    def _forget(self) -> None:
        before = self._known
        # Heartbeats of a class's status are no change of it.
        if before is not None and before != self._all():
            self._known = None


@dataclass(frozen=True, slots=True)
class Shared:
    """One for all pools."""

    kube: KubeClient
    world: World
    typed: TypedWorld
    names: NameBook
    classes: Classes
    preparations: Preparations
    settings: Settings
    loads: Loads
    clusters: Mirrored
    slices: Mirrored
    emit: Callable[[SpoolLine], None]
    """Writes a record of money into the spool."""
    report: Callable[[], CostReport | None]
    """Returns the newest cost report, if anybody has one."""
    clock: Callable[[], float]
    """Returns Unix seconds."""
